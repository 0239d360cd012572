"""`make label-curve`: measures how well models read by their number of labelled pictures.

Each number of labels is trained with several seeds, which also choose the pictures. To resume an
interrupted command, call it again.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from training.data.dataset import Dataset, digest_of
from training.data.split import split_by_content
from training.evaluation.metrics import wilson_interval
from training.evaluation.sweep import name_of_start, read_held_out, trained
from training.evaluation.sweep_tables import LABEL_CURVE, label_table, write_summary
from training.fit.config import AUTO, TrainConfig, add_config_options
from training.fit.datamodule import labelled_samples
from training.fit.plan import plan_of
from training.fit.runs import with_start_found
from training.settings import Parser

LABELS = (25, 50, 100, 200, 400, 832)
SEEDS = 3


Settings = Callable[[int, int], TrainConfig]
"""Gives the settings of a run by its number of labels and its seed."""


def measure(
    settings: Settings, labels: Sequence[int], seeds: int, runs: Path
) -> list[dict[str, Any]]:
    """A row for each number of labels: the exact matches of every seed, and their interval.

    The interval is Wilson's over the readings of all seeds. All seeds read the same pictures, so
    the interval covers the choice of labels, but not the choice of test pictures.
    """
    most = settings(max(labels), 1)
    dataset = Dataset(Path(most.data))
    # Checks that there are enough labels before hours of training with fewer.
    labelled_samples(most, split_by_content(dataset.samples))
    rows = []
    for count in labels:
        exact, pictures = [], 0
        for seed in range(1, seeds + 1):
            run = trained(settings(count, seed), runs)
            results = read_held_out(run, dataset)
            exact.append(sum(result.is_right for result in results))
            pictures = len(results)
            print(f"{count} labels, seed {seed}: {exact[-1]}/{pictures}", flush=True)
        low, high = wilson_interval(sum(exact), pictures * seeds)
        rows.append(
            {
                "labels": count,
                "pictures": pictures,
                "exact": exact,
                "exact_match": sum(exact) / (pictures * seeds),
                "exact_match_interval": [low, high],
            }
        )
    return rows


def draw_curve(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws the mean with its interval over the number of labels, and a dot for each seed."""
    from matplotlib.figure import Figure  # takes a fraction of a second

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    labels = [row["labels"] for row in rows]
    low, high = zip(*(row["exact_match_interval"] for row in rows), strict=True)
    axes.fill_between(labels, low, high, color="#4477aa", alpha=0.2, label="95 % interval")
    axes.plot(labels, [row["exact_match"] for row in rows], color="#4477aa", label="mean")
    for row in rows:
        shares = [exact / row["pictures"] for exact in row["exact"]]
        axes.plot([row["labels"]] * len(shares), shares, "o", color="#cc3311", markersize=4)
    axes.set_xscale("log")
    axes.set_xticks(labels, [str(count) for count in labels])
    axes.minorticks_off()
    axes.set(xlabel="labelled pictures", ylabel="exact match on the test split")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("label-curve", __doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/label-curve"))
    parser.add_argument("--charts", type=Path, default=Path("models"), help="default: %(default)s")
    parser.add_argument("--counts", type=int, nargs="+", default=LABELS, help="numbers of labels")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="default: %(default)s")
    add_config_options(parser, AUTO, ("minutes", "init_from", "data"))
    arguments = parser.parse_args(argv)

    def settings(labels: int, seed: int) -> TrainConfig:
        plan = plan_of(arguments, name=f"{labels}-labels-{seed}", labels=labels, seed=seed)
        return with_start_found(plan.config, arguments.runs.parent)

    rows = measure(settings, arguments.counts, arguments.seeds, arguments.runs)
    first = settings(arguments.counts[0], 1)
    test = digest_of(trained(first, arguments.runs).split("test"))
    summary = {"started_from": name_of_start(first), "test_digest": test, "rows": rows}
    written = write_summary(arguments.charts / LABEL_CURVE, summary)
    chart = written.with_suffix(".png")
    draw_curve(rows, chart)
    print(label_table(rows))
    print(f"written to {written} and {chart.name}")
