"""Writes docs/performance.md and docs/latency.png from the figures in benchmarks/results/."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bars import serving_bars
from benchmarks.chart import draw
from benchmarks.lifecycle import RESULTS as LIFECYCLE
from benchmarks.lifecycle import lifecycle_bars
from benchmarks.markdown import bars_table, measured_under, number, table, tail
from benchmarks.overload import RESULTS as OVERLOAD
from benchmarks.overload import overload_bars
from benchmarks.serving import RESULTS as SERVING

PICTURE = Path("docs/latency.png")
_PAGE = Path("docs/performance.md")

_HEAD = """# Performance

Written by `python -m benchmarks.report` from `benchmarks/results/`, which `make bench`,
`make bench-peers`, `make bench-overload` and `make bench-lifecycle` fill. Compare the
ratios, since both sides of a ratio are measured in one run. Absolute times depend on the machine
that is named, and on what else it did.
"""

_LEGEND = """
- `× run`: CPU time of a picture (user and system, all processes of the server), divided by that of
  a bare `session.run` with one thread. Both are measured in turn. In parentheses: the quartiles
  over the rounds.
- `× busy run`: the same, but the bare `session.run` runs on all of the servers' cores at once. The
  figure is lower if the cores share caches or have other work, which is not the server's cost.
- `pace`: pictures a second, divided by those of bare `session.run`s on all of the servers' cores
  with nothing else to do. The load generator uses some of the cores' time, too.
- Latencies are in milliseconds. *Closed*: 16 connections (2 for batches), each of which sends its
  next request when it has its answer. Waiting pictures are read up to four at a time, and each then
  takes less time than a bare `session.run` of one picture. *One at a time* is the cost of a request
  that is alone, on one connection. *At n %*: requests arrive at a constant n % of the closed loop's
  rate, and latency counts from the scheduled arrival. The percentiles are of all rounds together;
  the bars of p99 ÷ p50 and of CPU times are medians over the rounds. A p99.9 of fewer than 1000
  requests is not given.
- `MiB`: resident memory of the largest process / of all processes, after this load and those above.
"""

_OVERLOAD_LEGEND = """Requests ({payload}) arrive at a constant multiple of the capacity, in
rounds of two seconds. The rounds alternate with closed loops, which measure the capacity.
*Goodput ÷ the peak*: answers with 200 a second in a round, divided by the mean of the closed loops
before and after it; the median over the rounds (and the quartiles). The other figures are of all
rounds together. Latencies are in milliseconds from the scheduled arrival. *Neither*: requests that
are answered with another status than 200 or 503, or not at all. *Back after*: seconds from the last
arrival until the p99 is within {bound:.0f} ms again for three seconds in a row. This bound is twice
the p99 of the worst second at half the capacity, measured before. *Sent in time*: requests that the
generator sent within 10 ms of their scheduled time.
"""


def _serving_row(row: dict[str, Any], loads: int) -> list[str]:
    quartiles = "–".join(number(value) for value in row["cpu_ratio_quartiles"])
    tails = [tail(load["accepted"]) for load in row["open_loop"]] or ["–"] * loads
    return [
        row["server"],
        str(row["processes"]),
        row["payload"],
        f"{number(row['cpu_ratio'])} ({quartiles})",
        number(row["cpu_ratio_all_cores"]),
        number(row["pace"]),
        number(row["requests_per_second"], 0),
        tail(row["closed_loop"]["accepted"]),
        *tails,
        f"{row['resident_mib_largest']:.0f} / {row['resident_mib_all']:.0f}",
    ]


def _duel(duel: dict[str, Any]) -> str:
    low, high = map(number, duel["ratio_quartiles"])
    own, peers = (number(rate, 0) for rate in duel["requests_per_second"])
    return (
        f"This service and {duel['peer']} in turn, workers each: {duel['processes']}: {own} and "
        f"{peers} requests/s; the median of the ratios is {number(duel['ratio'])} ({low}–{high}).\n"
    )


def serving_section(figures: dict[str, Any]) -> Iterator[str]:
    """The cost and latency of serving, as Markdown."""
    shares = [load["share"] for load in figures["rows"][0]["open_loop"]]
    head = [
        "server",
        "workers",
        "sent as",
        "× run",
        "× busy run",
        "pace",
        "requests/s",
        "closed p50/p99/p99.9",
    ]
    head += [f"at {100 * share:.0f} %" for share in shares] + ["MiB"]
    rows = [_serving_row(row, len(shares)) for row in figures["rows"]]
    yield "## Cost and latency\n"
    yield measured_under(figures["conditions"])
    yield bars_table(serving_bars(figures))
    yield table(head, rows) + _LEGEND
    for duel in figures["duels"]:
        yield _duel(duel)
    yield f"![latency against load]({PICTURE.name})\n"
    if figures["skipped"]:
        yield "Not measured: " + "; ".join(figures["skipped"]) + ".\n"


def _overload_row(load: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    back = load["recovery_seconds"]
    probes = [load["probes"][path]["accepted"]["worst"] for path in figures["probed"]]
    return [
        f"{load['multiple']:g} ×",
        number(load["multiple"] * load["peak"], 0),
        _share(load),
        tail(load["accepted"]),
        tail(load["refused"]),
        str(sum(load["other"].values())),
        *(number(worst, 0) for worst in probes),
        "never" if back is None else number(back, 1),
        f"{100 * load['in_time']:.1f} %",
    ]


def _share(load: dict[str, Any]) -> str:
    low, high = map(number, load["share_quartiles"])
    return f"{number(load['share'])} ({low}–{high})"


def _insistent(load: dict[str, Any]) -> str:
    accepted, refused = tail(load["accepted"]), tail(load["refused"])
    return (
        f"{load['clients']} clients that ask again as soon as they are answered, also when they "
        f"are refused: goodput ÷ the peak {_share(load)}; accepted {accepted} ms, refused "
        f"{refused} ms, neither {sum(load['other'].values())}.\n"
    )


def overload_section(figures: dict[str, Any]) -> Iterator[str]:
    """The figures of overload, as Markdown."""
    rows = [_overload_row(load, figures) for load in figures["loads"]]
    head = ["load", "requests/s", "goodput ÷ the peak", "accepted p50/p99/p99.9"]
    head += ["refused p50/p99/p99.9", "neither"] + [f"worst `{path}`" for path in figures["probed"]]
    head += ["back after, s", "sent in time"]
    yield "## Overload\n"
    yield measured_under(figures["conditions"])
    yield bars_table(overload_bars(figures))
    yield table(head, rows)
    yield _OVERLOAD_LEGEND.format(bound=figures["bound_ms"], payload=figures["payload"])
    yield from map(_insistent, figures["insistent"])


_ENDS = "## Ends and accidents\n"


def lifecycle_section(figures: dict[str, Any]) -> Iterator[str]:
    """The requests that are lost when processes end, as Markdown."""
    runs = figures["terminated"]
    seconds = [run["exit_seconds"] for run in runs if run["exit_seconds"] is not None]
    yield _ENDS
    yield measured_under(figures["conditions"])
    yield bars_table(lifecycle_bars(figures))
    yield (
        f"SIGTERM at 80 % of the capacity: {sum(run['answered'] for run in runs)} requests "
        f"answered; the service took at most {number(max(seconds, default=None), 1)} s to exit; "
        f"{sum(run['lost_after'] for run in runs)} requests that were sent after the signal, over "
        "connections that were just being closed, got no answer (RFC 9112, 9.5: clients may see "
        "this at any time).\n"
    )
    for struck in figures["struck"]:
        accepted, other = struck["accepted"], struck["other"]
        yield (
            f"{struck['signal']} to one of two workers at half the capacity: "
            f"{accepted['count']} requests answered, {struck['refused']['count']} refused, "
            f"{sum(other.values())} neither; p50/p99/p99.9 {tail(accepted)} ms, worst "
            f"{number(accepted['worst'], 0)} ms.\n"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--serving", type=Path, default=SERVING)
    parser.add_argument("--overload", type=Path, default=OVERLOAD)
    parser.add_argument("--lifecycle", type=Path, default=LIFECYCLE)
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
    if arguments.lifecycle.exists():
        parts += lifecycle_section(json.loads(arguments.lifecycle.read_text()))
    else:
        parts.append(f"{_ENDS}\nNot measured; `make bench-lifecycle` measures it.\n")
    page = "\n".join(parts)
    arguments.out.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
