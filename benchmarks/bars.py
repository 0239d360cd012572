"""The bars for the figures of serving, and whether a measurement meets them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import SERVICE

CORES_FOR_TWO_WORKERS = 5
"""Cores that two workers with two threads each and the load generator need."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure and its bound. The value is None if it was not measured."""

    name: str
    value: float | None
    bound: float
    at_least: bool = False
    why_not: str = "not measured"

    @property
    def met(self) -> bool | None:
        """Whether the value keeps the bound; None if there is no value."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def find(rows: Sequence[Row], payload: str, processes: int = 1) -> Row | None:
    """The service's row for this payload and number of workers."""
    for row in rows:
        if (row["server"], row["payload"], row["processes"]) == (SERVICE, payload, processes):
            return row
    return None


def serving_bars(figures: dict[str, Any]) -> list[Bar]:
    """The bars for what `benchmarks.serving` measured."""
    rows: list[Row] = figures["rows"]
    start = figures["start"]
    bars = [
        _cost(rows, "raw body", 1.3),
        _cost(rows, "multipart", 1.4),
        _cost(rows, "batch of 64", 1.15),
        *_against_peers(figures["duels"]),
        *_tails(rows),
        Bar("resident memory of a worker, MiB", _largest_worker(rows), 130),
        Bar(
            "start to ready ÷ loading libraries and model",
            start["ready_seconds"] / start["libraries_and_model_seconds"],
            1.5,
        ),
    ]
    one, two = find(rows, "multipart"), find(rows, "multipart", 2)
    cores = figures["conditions"]["cores"]
    enough = cores >= CORES_FOR_TWO_WORKERS
    gain = two["pace"] / one["pace"] if one and two and enough else None
    why = "not measured" if enough else f"not judged on {cores} cores"
    bars.append(
        Bar("requests/s (as pace), two workers ÷ one", gain, 1.8, at_least=True, why_not=why)
    )
    return bars


def _largest_worker(rows: Sequence[Row]) -> float | None:
    sizes = [row["resident_mib_largest"] for row in rows if row["server"] == SERVICE]
    return max(sizes, default=None)


def _cost(rows: Sequence[Row], payload: str, bound: float) -> Bar:
    row = find(rows, payload)
    name = f"CPU time of a picture ÷ `session.run`, {payload}"
    return Bar(name, row["cpu_ratio"] if row else None, bound)


def _against_peers(duels: Sequence[Row]) -> Iterator[Bar]:
    ratios = {duel["processes"]: duel["ratio"] for duel in duels}
    for processes, bound in ((1, 1.3), (2, 1.5)):
        name = f"requests/s ÷ the best peer's, workers each: {processes}"
        yield Bar(name, ratios.get(processes), bound, at_least=True)


def _tails(rows: Sequence[Row]) -> Iterator[Bar]:
    for payload in ("multipart", "raw body"):
        row = find(rows, payload)
        loads = [load for load in row["open_loop"] if load["share"] == 0.8] if row else []
        ratio = loads[0]["tail_ratio"] if loads else None
        yield Bar(f"p99 ÷ p50 at 80 % load, {payload}", ratio, 4)
