import pytest

from training.fit.progress_display import duration, epoch_display


def test_a_duration_has_a_readable_unit() -> None:
    assert [duration(seconds) for seconds in (40.4, 720, 3900)] == ["40 s", "12 min", "1 h 05 min"]


def test_without_a_terminal_progress_is_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The time left is limited by `most_seconds`, but is at least the rest of the epoch."""
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
