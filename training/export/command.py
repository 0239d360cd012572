"""Exports a run, the newest one by default, and puts it in place of the model that is served.

The old model is kept beside the new one. A model that reads nothing in its test split, or
significantly less than the old model, is refused without --force.
"""

from collections.abc import Sequence
from pathlib import Path

from service.ocr.exceptions import OcrError
from service.ocr.metadata import ModelMetadata
from service.ocr.recognizer import Recognizer
from training.data.dataset import Dataset
from training.export.replacement import replace_model
from training.fit.runs import Run
from training.settings import Parser
from training.tensorflow_import import import_tensorflow


def compare(old: ModelMetadata | None, new: ModelMetadata) -> str:
    """The held-out figures of the old and the new model, side by side."""
    models = [model for model in (old, new) if model is not None]
    rows = [["", *["old", "new"][-len(models) :]]]
    for name in ("version", "training_run", "alphabet"):
        rows.append([name, *(str(getattr(model, name)) for model in models)])
    rows.append(["picture size", *(f"{model.width}×{model.height}" for model in models)])
    for name in ("split", "pictures", "exact", "exact_match", "exact_match_interval", "cer"):
        rows.append([name, *(str(model.figures.get(name, "–")) for model in models)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _metadata_of(path: Path) -> ModelMetadata | None:
    try:
        return Recognizer.load(path).metadata
    except OcrError:
        return None


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("export", __doc__)
    parser.add_argument("run", nargs="?", help="a run's name or folder; default: the newest one")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="default: %(default)s")
    parser.add_argument("--data", type=Path, help="default: the data set that the run names")
    parser.add_argument("--out", type=Path, default=Path("models/captcha.onnx"))
    parser.add_argument("--force", action="store_true", help="replace even a better model")
    parser.add_argument(
        "--quantize",
        choices=["int8"],
        help="compute the convolutions in 8-bit integers, which takes less time",
    )
    arguments = parser.parse_args(argv)
    run = Run.find(arguments.runs, arguments.run)
    newest = max(arguments.runs.glob("*/"), default=run.folder)
    if not arguments.run and newest.name > run.name:
        print(f"note: {Run(newest).state}")
    dataset = Dataset(arguments.data or Path(run.config.data))
    old = _metadata_of(arguments.out)
    exported = run.quantized if arguments.quantize else run.exported
    if not run.is_current(exported):
        print(f"exporting {run.folder}")
        import_tensorflow(gpu=False)
        from training.export.onnx_export import export

        export(run, dataset, exported, quantized=bool(arguments.quantize))
    if arguments.out.resolve() != exported.resolve():
        test = run.split("test")
        kept = replace_model(exported, arguments.out, dataset, test, arguments.force)
        print(f"{exported} is now {arguments.out}")
        if kept:
            print(f"the old model is kept; to go back: cp {kept} {arguments.out}")
    print(compare(old, Recognizer.load(arguments.out).metadata))
