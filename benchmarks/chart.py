"""The chart of latency by load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import SERVICE


def draw(figures: dict[str, Any], path: Path) -> None:
    """Draws the p50 and p99 of every server by the rate at which requests arrive."""
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
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]
