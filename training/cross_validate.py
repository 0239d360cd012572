"""`make cross-validate`: reads every labelled picture with a model that did not train on it.

The pictures are cut into ten folds by their content; each fold is read by a model that was
trained on the other nine, the last epoch of which is kept, so that nothing of the fold chooses.
A command that was interrupted goes on where it was when called again.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.config import TrainConfig, add_config_options, config_of
from training.dataset import Dataset, Sample, digest_of
from training.exceptions import reported
from training.metrics import character_error_rate, exact_matches, wilson_interval
from training.series import pairs_of, read_held_out, trained
from training.series_tables import fold_table
from training.split import FOLDS
from training.starting_weights import with_start_found

Reading = tuple[Sample, str]


def read_folds(
    config: TrainConfig, runs: Path, folds: Sequence[int] = range(1, FOLDS + 1)
) -> Iterator[list[Reading]]:
    """The samples of one fold after the other, and what was read in them."""
    dataset = Dataset(Path(config.data))
    for fold in folds:
        settings = replace(config, name=f"fold-{fold}", fold=fold, train_on_validation=True)
        readings = read_held_out(trained(settings, runs), dataset)
        print(f"fold {fold}: {exact_matches(pairs_of(readings))}/{len(readings)}", flush=True)
        yield readings


def summarize(folds: Sequence[Sequence[Reading]]) -> dict[str, Any]:
    """Exact match over all folds with its 95 % Wilson interval, CER, each fold and each error."""
    readings = [reading for fold in folds for reading in fold]
    pairs = pairs_of(readings)
    exact = exact_matches(pairs)
    return {
        "pictures": len(pairs),
        "exact": exact,
        "exact_match": exact / len(pairs),
        "exact_match_interval": list(wilson_interval(exact, len(pairs))),
        "cer": character_error_rate(pairs),
        "digest": digest_of(sample for sample, _ in readings),
        "folds": [
            {"pictures": len(fold), "exact": exact_matches(pairs_of(fold))} for fold in folds
        ],
        "errors": [
            {"source": sample.source, "label": sample.label, "read": text}
            for sample, text in readings
            if sample.label != text
        ],
    }


def draw_errors(errors: Sequence[Reading], dataset: Dataset, path: Path) -> None:
    """One sheet of the pictures that were misread, each with its label and what was read."""
    import io

    import matplotlib
    from PIL import Image

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = 3
    rows = max(1, -(-len(errors) // columns))
    figure, grid = plt.subplots(
        rows, columns, figsize=(9, 1.2 * rows + 0.3), squeeze=False, layout="constrained"
    )
    for axes in grid.flat:
        axes.axis("off")
    for axes, (sample, text) in zip(grid.flat, errors, strict=False):
        axes.imshow(Image.open(io.BytesIO(dataset.read(sample))).convert("L"), "gray")
        axes.set_title(f"{sample.label} read as {text or 'nothing'}", size=9)
    figure.suptitle(f"{len(errors)} misread", size=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.cross_validate", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/cross-validation"))
    parser.add_argument("--out", type=Path, default=Path("models"), help="default: %(default)s")
    add_config_options(parser)
    arguments = parser.parse_args()
    with reported():
        config = with_start_found(config_of(arguments), arguments.runs.parent)
        folds = list(read_folds(config, arguments.runs))
        errors = [(s, text) for fold in folds for s, text in fold if s.label != text]
        sheet = arguments.runs / "errors.png"
        draw_errors(errors, Dataset(Path(config.data)), sheet)
    summary = {"started_from": config.init_from} | summarize(folds)
    (arguments.out / "cross-validation.json").write_text(
        json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(fold_table(summary))
    print(f"written to {arguments.out}/cross-validation.json; the pictures are in {sheet}")


if __name__ == "__main__":
    main()
