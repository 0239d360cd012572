"""`make cross-validate`: reads every labelled picture with a model that did not train on it.

The pictures are cut into ten folds by their content. Each fold is read by a model that was trained
on the other nine. The last epoch of that model is kept, so that the fold does not influence the
choice. To resume an interrupted command, call it again. `make inspect` can use the table of all
readings to look for wrong labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.data.charts import draw_misread
from training.data.dataset import Dataset, digest_of
from training.data.split import FOLDS
from training.evaluation.evaluate import Result, write_results
from training.evaluation.metrics import character_error_rate, wilson_interval
from training.evaluation.sweep import name_of_start, read_held_out, trained
from training.evaluation.sweep_tables import CROSS_VALIDATION, fold_table, write_summary
from training.fit.config import AUTO, TrainConfig, add_config_options
from training.fit.plan import plan_of
from training.fit.runs import with_start_found
from training.reports.provenance import commands_of_start
from training.settings import Parser


def read_folds(
    config: TrainConfig, runs: Path, folds: Sequence[int] = range(1, FOLDS + 1)
) -> Iterator[list[Result]]:
    """Trains and reads one fold after the other; yields the readings of each fold."""
    dataset = Dataset(Path(config.data))
    for fold in folds:
        settings = replace(config, name=f"fold-{fold}", fold=fold, train_on_validation=True)
        results = read_held_out(trained(settings, runs), dataset)
        print(f"fold {fold}: {_exact(results)}/{len(results)}", flush=True)
        yield results


def _exact(results: Sequence[Result]) -> int:
    return sum(result.is_right for result in results)


def summarize(folds: Sequence[Sequence[Result]]) -> dict[str, Any]:
    """Exact match over all folds with its 95 % Wilson interval, CER, each fold and each error."""
    results = [result for fold in folds for result in fold]
    pairs = [result.pair for result in results]
    exact = _exact(results)
    return {
        "pictures": len(pairs),
        "exact": exact,
        "exact_match": exact / len(pairs),
        "exact_match_interval": list(wilson_interval(exact, len(pairs))),
        "cer": character_error_rate(pairs),
        "digest": digest_of(result.sample for result in results),
        "folds": [{"pictures": len(fold), "exact": _exact(fold)} for fold in folds],
        "errors": [
            {"source": error.sample.source, "label": error.sample.label, "read": error.reading.text}
            for error in errors_in(results)
        ],
    }


def errors_in(results: Sequence[Result]) -> list[Result]:
    """The misread results."""
    return [result for result in results if not result.is_right]


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("cross-validate", __doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/cross-validation"))
    parser.add_argument("--out", type=Path, default=Path("models"), help="default: %(default)s")
    add_config_options(parser, AUTO, ("minutes", "init_from", "data"))
    arguments = parser.parse_args(argv)
    plan = plan_of(arguments, train_on_validation=True)
    config = with_start_found(plan.config, arguments.runs.parent)
    folds = list(read_folds(config, arguments.runs))
    results = [result for fold in folds for result in fold]
    write_results(arguments.runs, "all", results)
    sheet = arguments.runs / "errors.png"
    misread = [(one.sample, one.reading.text) for one in errors_in(results)]
    draw_misread(Dataset(Path(config.data)), misread).save(sheet)
    summary = {
        "started_from": name_of_start(config),
        "start_trained_by": commands_of_start(config, arguments.runs.parent),
    } | summarize(folds)
    written = write_summary(arguments.out / CROSS_VALIDATION, summary)
    print(fold_table(summary))
    print(f"written to {written}; the misread pictures are in {sheet}")
    print(f"wrong labels: make inspect READINGS={arguments.runs}/all.csv")
