"""Summarizes the outcomes of a load: percentiles, answers by kind, and goodput."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.load import UNANSWERED, Outcome

IN_TIME_SECONDS = 0.01
"""Longest delay, after its scheduled time, with which a request still counts as sent in time."""

_OK, _REFUSED = 200, 503

_STEADY = 3
"""Windows in a row within the bound after which a service counts as recovered."""


def percentile(values: Sequence[float], share: float) -> float | None:
    """The least of the values that is at least as large as this share of them (nearest rank).

    Returns:
        None if less than one value is expected above the percentile, which would then merely be
        the maximum.
    """
    if not values or len(values) * (1 - share) < 1 - 1e-9:
        return None
    return sorted(values)[math.ceil(len(values) * share - 1e-9) - 1]


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in milliseconds; None for those for which there are too few values."""

    count: int
    p50: float | None
    p99: float | None
    p999: float | None
    worst: float | None

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> "Latency":
        """The latencies of these outcomes, from their scheduled arrivals."""
        values = [1000 * outcome.latency for outcome in outcomes]
        return cls(
            len(values),
            percentile(values, 0.5),
            percentile(values, 0.99),
            percentile(values, 0.999),
            max(values, default=None),
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcomes of one load."""

    accepted: Latency  # answered with 200
    refused: Latency  # answered with 503
    other: dict[str, int]  # number of answers by other status, and of `unanswered` requests
    in_time: float  # share of requests sent within IN_TIME_SECONDS of their scheduled time
    goodput: float  # answers with 200 a second

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> "Summary":
        """Summarizes outcomes. Goodput counts from the first scheduled arrival to the last end."""
        if not outcomes:
            raise ValueError("there are no outcomes to summarise; the load was too short.")
        accepted = Latency.of(o for o in outcomes if o.status == _OK)
        others = Counter(o.status for o in outcomes if o.status not in (_OK, _REFUSED))
        span = max(o.ended for o in outcomes) - min(o.scheduled for o in outcomes)
        on_time = sum(o.sent - o.scheduled <= IN_TIME_SECONDS for o in outcomes)
        return cls(
            accepted,
            Latency.of(o for o in outcomes if o.status == _REFUSED),
            {"unanswered" if s == UNANSWERED else str(s): n for s, n in sorted(others.items())},
            on_time / len(outcomes),
            accepted.count / span if span > 0 else 0.0,
        )

    def figures(self) -> dict[str, Any]:
        """The summary as a dictionary, for JSON."""
        return asdict(self)


def tail_ratio(rounds: Iterable[Sequence[Outcome]]) -> float | None:
    """p99 ÷ p50 of accepted requests: the median over rounds of the same load.

    With the median, a short disturbance of the machine spoils one round, and not the figure.

    Returns:
        None if no round has enough requests for a p99.
    """
    ratios = []
    for outcomes in rounds:
        accepted = Summary.of(outcomes).accepted
        if accepted.p50 and accepted.p99:
            ratios.append(accepted.p99 / accepted.p50)
    return statistics.median(ratios) if ratios else None


def windows_p99(outcomes: Sequence[Outcome], seconds: float = 1.0) -> dict[float, float]:
    """The p99 in milliseconds of every window of scheduled arrivals, by the window's start.

    The p99 is infinite if a window has outcomes other than answers with 200. Of fewer than 100
    requests it is the maximum.
    """
    start = min(o.scheduled for o in outcomes)
    windows: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        windows.setdefault(int((outcome.scheduled - start) / seconds), []).append(outcome)
    return {start + n * seconds: _p99(windows[n]) for n in sorted(windows)}


def recovery_seconds(
    outcomes: Sequence[Outcome], origin: float, bound_ms: float, window: float = 1.0
) -> float | None:
    """Seconds from `origin` until the p99 of three windows in a row is within a bound.

    Later windows are ignored, since the machine itself may stall at any time.

    Args:
        outcomes: outcomes of a load after the overload, in any order.
        origin: the time at which the overload's last request was scheduled.
        bound_ms: the bound of the p99 in milliseconds.
        window: length of a window in seconds.

    Returns:
        None if there are no three such windows in a row.
    """
    within = [(start, p99 <= bound_ms) for start, p99 in windows_p99(outcomes, window).items()]
    for number in range(len(within) - _STEADY + 1):
        if all(good for _, good in within[number : number + _STEADY]):
            return within[number][0] - origin
    return None


def _p99(outcomes: Sequence[Outcome]) -> float:
    if any(outcome.status != _OK for outcome in outcomes):
        return math.inf
    latencies = sorted(1000 * outcome.latency for outcome in outcomes)
    return latencies[math.ceil(0.99 * len(latencies)) - 1]
