"""Puts the figures in benchmarks/results/ into docs/scaling.md, and draws docs/bulk.png."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import bulk, scaling
from benchmarks.bulk_estimate import BulkEstimate
from benchmarks.contenders import SERVICE
from benchmarks.markdown import measured_under, number, table

PAGE = Path("docs/scaling.md")


def fill(page: str, name: str, content: str) -> str:
    """Replaces the content between `<!-- name -->` and `<!-- end of name -->` in a page.

    Raises:
        ValueError: the page does not have each of these marks exactly once.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    marked = re.compile(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", re.DOTALL)
    page, filled = marked.subn(lambda _: f"\n{content}\n", page)
    if filled != 1:
        raise ValueError(f"the page has {filled} × {begin.strip()}, not 1 ×.")
    return page


def serving_section(figures: dict[str, Any]) -> Iterator[str]:
    """The cost of a picture with workers, instances and Ray Serve, as Markdown."""
    by_name = {row["server"]: row for row in figures["rows"]}
    head = ["server", "× run", "HAProxy's share", "requests/s", "MiB"]
    yield measured_under(figures["conditions"])
    yield table(head, [_serving_row(row) for row in figures["rows"]])
    one = by_name[SERVICE]
    two, three = by_name[f"{SERVICE}, 2 workers"], by_name[scaling.BALANCED]
    yield (
        f"A second worker needs {two['resident_mib'] - one['resident_mib']:.0f} MiB, and "
        f"{two['cpu_ratio'] / one['cpu_ratio']:.2f} × the cores of one process for the same "
        f"pictures. Three instances need {three['cpu_ratio'] / one['cpu_ratio']:.2f} × the cores "
        f"of one: HAProxy takes {100 * three['proxy_share']:.0f} % of the CPU time, and since "
        "fewer pictures wait for the same process, fewer are read at a time.\n"
    )
    least, turns = figures["slow"]
    yield (
        f"If one of the three instances gets a tenth of its CPU time while {least['rate']:.0f} "
        f"requests/s arrive: {_with_a_slow_instance(least)}; {_with_a_slow_instance(turns)}.\n"
    )
    if others := [row for name, row in by_name.items() if name.startswith("Ray Serve")]:
        (ray,) = others
        yield (
            "**Why not Ray Serve?** With two workers, it needs "
            f"{ray['cpu_ratio'] / one['cpu_ratio']:.1f} × the cores for the same pictures, "
            f"{ray['resident_mib'] / one['resident_mib']:.0f} × the "
            f"memory, and reads {ray['requests_per_second']:.0f} requests/s where the service "
            f"reads {one['requests_per_second']:.0f}: before it is read, a request passes a proxy "
            "and a router, which are Python processes.\n"
        )
    if figures["skipped"]:
        yield "Not measured: " + "; ".join(figures["skipped"]) + ".\n"


def _serving_row(row: dict[str, Any]) -> list[str]:
    quartiles = "–".join(number(value) for value in row["cpu_ratio_quartiles"])
    share = row["proxy_share"]
    return [
        row["server"],
        f"{number(row['cpu_ratio'])} ({quartiles})",
        "–" if share is None else f"{100 * share:.0f} %",
        number(row["requests_per_second"], 0),
        number(row["resident_mib"], 0),
    ]


def _with_a_slow_instance(figures: dict[str, Any]) -> str:
    return (
        f"with `{figures['algorithm']}`, {figures['goodput']:.0f} a second are read, with "
        f"a p95 of {number(figures['p95_ms'], 0)} ms, and {figures['not_read']} are not read"
    )


def bulk_section(figures: dict[str, Any]) -> Iterator[str]:
    """The cost of reading in bulk, beside that of `predict`, as Markdown."""
    head = ["", "CPU-ms a picture", "÷ predict", "seconds"]
    rows = [
        [row["reads"], number(row["cpu_ms"]), number(row["ratio"]), number(row["seconds"], 0)]
        for row in figures["rows"]
    ]
    yield measured_under(figures["conditions"], "all processes")
    yield table(head, rows)
    worst = max(row["ratio"] for row in figures["rows"])
    yield (
        f"{figures['pictures']:,} pictures, {figures['broken']} of them broken; all give the same "
        f"texts. The seconds are the wall time of the command, the start of Ray included. The most "
        f"expensive way costs {worst:.2f} × `predict`; the bar is {bulk.BAR}.\n"
    )


def estimate(figures: dict[str, Any]) -> BulkEstimate:
    """The estimate from the measured costs."""
    (tar,) = [row for row in figures["rows"] if row["reads"] == "bulk read, tar"]
    return BulkEstimate(tar["cpu_ms"], figures["driver_cpu_ms"])


def sections(serving: dict[str, Any], read: dict[str, Any]) -> dict[str, str]:
    """The generated sections of the page, by the names of their marks."""
    every = {
        "make bench-scaling": serving_section(serving),
        "make bench-bulk": bulk_section(read),
        "estimated from make bench-bulk": estimate(read).section(),
    }
    return {name: "\n".join(section) for name, section in every.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling_report", description=__doc__
    )
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    serving = json.loads(scaling.RESULTS.read_text())
    read = json.loads(bulk.RESULTS.read_text())
    page = arguments.page.read_text(encoding="utf-8")
    for name, content in sections(serving, read).items():
        page = fill(page, name, content)
        print(content)
    arguments.page.write_text(page, encoding="utf-8")
    estimate(read).draw(arguments.page.with_name("bulk.png"))


if __name__ == "__main__":
    main()
