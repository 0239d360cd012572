"""Makes docs/performance.md and docs/latency.png of the figures in benchmarks/results/."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar, serving_bars
from benchmarks.contenders import SERVICE
from benchmarks.overload import RESULTS as OVERLOAD
from benchmarks.overload import overload_bars
from benchmarks.serving import RESULTS as SERVING

PICTURE = Path("docs/latency.png")
_PAGE = Path("docs/performance.md")

_HEAD = """# Performance

Written by `python -m benchmarks.report` from `benchmarks/results/`, which `make bench`,
`make bench-peers` and `make bench-overload` fill. Figures are ratios of what was measured in one
run: absolute times are of the machine that is named, and of what else it did.
"""

_LEGEND = """
- `× run`: CPU time of a picture, user and system, of all processes of the server, over that of a
  bare `session.run` with one thread, measured in turn with it; its quartiles over the rounds.
- `pace`: pictures a second over those of bare `session.run`s on all of the servers' cores, with
  nothing else to do; of the cores' time, the load generator needs some, too.
- Latencies are in milliseconds. *Closed*: 8 connections, each of which sends when it has its
  answer. *At n %*: requests arrive at a constant n % of the closed loop's rate; latency counts from
  the scheduled arrival. A p99.9 of fewer than 1000 requests is not given.
- `MiB`: resident memory after the load, of the largest process / of all.
"""

_OVERLOAD_LEGEND = """Requests ({payload}) arrive at a constant multiple of the capacity, which a
closed loop found; latencies are in milliseconds from the scheduled arrival. *Neither*: answered
with another status than 200 or 503, or not at all. *Back after*: seconds from the last of these
arrivals until the p99 of every following second is again within {bound:.0f} ms, twice that of the
worst second at half the capacity before. *Sent in time*: requests that the generator sent within
10 ms of their scheduled time.
"""


def number(value: float | None, digits: int = 2) -> str:
    """A figure in a table; – where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first column is of words, the others of figures."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def tail(latency: dict[str, Any]) -> str:
    """The percentiles of one load, in one cell."""
    return " / ".join(number(latency[name], 0) for name in ("p50", "p99", "p999"))


def measured_under(conditions: dict[str, Any]) -> str:
    """The conditions as a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    pinned = (
        f"the servers on {conditions['server_cores']} of them and the load on one"
        if conditions["pinned"]
        else "shared by the servers and the load"
    )
    return (
        f"Measured {conditions['date']} on {conditions['cores']} cores ({conditions['cpu']}), "
        f"{pinned}; load average before it {conditions['load_average_before']}. "
        f"Python {conditions['python']}, {versions}.\n"
    )


def bars_table(bars: Sequence[Bar]) -> str:
    """Which bars are met."""
    verdicts = {True: "met", False: "missed"}
    rows = [
        [
            bar.name,
            number(bar.value),
            f"{'≥' if bar.at_least else '≤'} {bar.bound:g}",
            bar.why_not if bar.met is None else verdicts[bar.met],
        ]
        for bar in bars
    ]
    return table(["bar", "measured", "bound", ""], rows)


def _serving_row(row: dict[str, Any], loads: int) -> list[str]:
    quartiles = "–".join(number(value) for value in row["cpu_ratio_quartiles"])
    tails = [tail(load["accepted"]) for load in row["open_loop"]] or ["–"] * loads
    return [
        row["server"],
        str(row["processes"]),
        row["payload"],
        f"{number(row['cpu_ratio'])} ({quartiles})",
        number(row["pace"]),
        number(row["requests_per_second"], 0),
        tail(row["closed_loop"]["accepted"]),
        *tails,
        f"{row['resident_mib_largest']:.0f} / {row['resident_mib_all']:.0f}",
    ]


def serving_section(figures: dict[str, Any]) -> Iterator[str]:
    """What serving costs."""
    shares = [load["share"] for load in figures["rows"][0]["open_loop"]]
    head = ["server", "workers", "sent as", "× run", "pace", "requests/s", "closed p50/p99/p99.9"]
    head += [f"at {100 * share:.0f} %" for share in shares] + ["MiB"]
    rows = [_serving_row(row, len(shares)) for row in figures["rows"]]
    yield "## Cost and latency\n"
    yield measured_under(figures["conditions"])
    yield bars_table(serving_bars(figures))
    yield table(head, rows) + _LEGEND
    yield f"![latency against load]({PICTURE.name})\n"
    if figures["skipped"]:
        yield "Not measured: " + "; ".join(figures["skipped"]) + ".\n"


def _overload_row(load: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    back = load["recovery_seconds"]
    probes = [load["probes"][path]["accepted"]["worst"] for path in figures["probed"]]
    return [
        f"{load['multiple']:g} ×",
        number(load["rate"], 0),
        f"{100 * load['goodput'] / figures['peak']:.0f} %",
        tail(load["accepted"]),
        tail(load["refused"]),
        str(sum(load["other"].values())),
        *(number(worst, 0) for worst in probes),
        "never" if back is None else number(back, 1),
        f"{100 * load['in_time']:.1f} %",
    ]


def overload_section(figures: dict[str, Any]) -> Iterator[str]:
    """What becomes of more requests than can be served."""
    rows = [_overload_row(load, figures) for load in figures["loads"]]
    head = ["load", "requests/s", "goodput of the peak", "accepted p50/p99/p99.9"]
    head += ["refused p50/p99/p99.9", "neither"] + [f"worst `{path}`" for path in figures["probed"]]
    head += ["back after, s", "sent in time"]
    yield "## Overload\n"
    yield measured_under(figures["conditions"])
    yield bars_table(overload_bars(figures))
    yield table(head, rows)
    yield _OVERLOAD_LEGEND.format(bound=figures["bound_ms"], payload=figures["payload"])


def draw(figures: dict[str, Any], path: Path) -> None:
    """A chart of p50 and p99 against the rate at which requests arrive, for every server."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    for place, row in enumerate(row for row in figures["rows"] if row["open_loop"]):
        rates = [load["share"] * row["pace"] for load in row["open_loop"]]
        medians = [load["accepted"]["p50"] for load in row["open_loop"]]
        tails = [load["accepted"]["p99"] for load in row["open_loop"]]
        label = f"{row['server']}, workers: {row['processes']}, {row['payload']}"
        width = 2.4 if row["server"] == SERVICE else 1.2
        (line,) = axes.plot(rates, _numbers(tails), "o-", label=label, lw=width, color=f"C{place}")
        axes.plot(rates, _numbers(medians), ":", lw=width, color=line.get_color())
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_xlabel("arrivals, as a share of the bare session.runs that the same cores make")
    axes.set_ylabel("latency from the scheduled arrival, ms")
    axes.set_title("p99 (solid) and p50 (dotted) at 25, 50, 80 and 95 % of each one's capacity")
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--serving", type=Path, default=SERVING)
    parser.add_argument("--overload", type=Path, default=OVERLOAD)
    parser.add_argument("--out", type=Path, default=_PAGE)
    arguments = parser.parse_args()
    parts = [_HEAD]
    arguments.out.parent.mkdir(exist_ok=True)
    if arguments.serving.exists():
        figures = json.loads(arguments.serving.read_text())
        draw(figures, arguments.out.with_name(PICTURE.name))
        parts += serving_section(figures)
    if arguments.overload.exists():
        parts += overload_section(json.loads(arguments.overload.read_text()))
    page = "\n".join(parts)
    arguments.out.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
