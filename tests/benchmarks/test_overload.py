from typing import Any

import pytest

from benchmarks import overload
from benchmarks.load import Outcome

SERVER: Any = None
ACCEPTED, REFUSED = 200, 503


def test_goodput_is_compared_with_the_peaks_before_and_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that gets slower does not lower the share."""
    turns: list[str] = []
    # Answers a second on a machine that gets slower; the second round of overload is disturbed.
    peaks, goodputs = iter([100, 60, 20, 20]), iter([80, 4, 18])

    def load(peak: float) -> list[Outcome]:
        turns.append(f"beside {peak:g}")
        accepted = next(goodputs)
        accepting = [Outcome(0, 0, (n + 1) / accepted, ACCEPTED) for n in range(accepted)]
        return [*accepting, Outcome(0.5, 0.5, 0.6, REFUSED)]

    def peak(*_: object) -> int:
        turns.append("closed")
        return next(peaks)

    monkeypatch.setattr(overload, "capacity_of", peak)
    figures = overload.beside_peak(SERVER, [], rounds=3, load=load)
    assert turns == ["closed", "beside 100", "closed", "beside 60", "closed", "beside 20", "closed"]
    assert figures["share"] == 0.9  # the median of 80 ÷ 80, 4 ÷ 40 and 18 ÷ 20
    assert figures["share_quartiles"] == [0.1, 1]
    assert (figures["accepted"]["count"], figures["refused"]["count"]) == (80 + 4 + 18, 3)
