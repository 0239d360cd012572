"""Figures as Markdown."""

from collections.abc import Sequence
from typing import Any

from benchmarks.bars import Bar


def number(value: float | None, digits: int = 2) -> str:
    """A figure for a table, or – if there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown. The first column has words, the others have figures."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def tail(latency: dict[str, Any]) -> str:
    """The percentiles of one load, in one cell."""
    return " / ".join(number(latency[name], 0) for name in ("p50", "p99", "p999"))


def measured_under(conditions: dict[str, Any], users: str = "the servers and the load") -> str:
    """The conditions of a measurement, as a paragraph; `users` are what shares the cores."""
    versions = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    pinned = (
        f"the servers on {conditions['server_cores']} of them and the load on one, where it never "
        "sleeps"
        if conditions["pinned"]
        else f"shared by {users}"
    )
    busy = conditions["load_average_before"] > conditions["cores"] / 2
    warning = (
        " **The machine was busy with other work: only CPU times and their ratios are reliable, "
        "rates and latencies are not.**"
    )
    return (
        f"Measured {conditions['date']} on {conditions['cores']} cores ({conditions['cpu']}), "
        f"{pinned}; load average before it {conditions['load_average_before']}. "
        f"Python {conditions['python']}, {versions}."
        f"{warning if busy else ''}\n"
    )


def bars_table(bars: Sequence[Bar]) -> str:
    """A table of the bars, with whether each is met."""
    verdicts = {True: "met", False: "missed"}
    rows = [
        [
            bar.name,
            number(bar.value, 0 if bar.value is not None and float(bar.value).is_integer() else 2),
            f"{'≥' if bar.at_least else '≤'} {bar.bound:g}",
            bar.why_not if bar.met is None else verdicts[bar.met],
        ]
        for bar in bars
    ]
    return table(["bar", "measured", "bound", ""], rows)
