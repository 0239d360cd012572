import pytest

from training.fit.progress_display import duration, epoch_display


def test_durations() -> None:
    """In the unit that a person would use."""
    assert [duration(seconds) for seconds in (40.4, 720, 3900)] == ["40 s", "12 min", "1 h 05 min"]


def test_a_line_a_minute_elsewhere_than_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says how far the epoch is, and the time left: what may be spent, or this epoch's."""
    now = [0.0]
    monkeypatch.setattr("training.fit.progress_display.time.monotonic", lambda: now[0])
    for most, left in ((1e9, "8 min"), (400.0, "6 min"), (-5.0, "4 min")):
        now[0] = 0.0
        with epoch_display(2, 3, pictures=400, most_seconds=most) as advance:
            for seen in (50, 100, 150):
                now[0] += 35
                advance(seen, 1.25)
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith("epoch   2/3   25%  loss   1.250")
        assert line.endswith(f"  {left} left")
