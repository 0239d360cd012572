"""Opens the exported model and the split of the data that a command evaluates."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from service.ocr.recognizer import Recognizer
from training.data.dataset import Dataset, Sample, digest_of
from training.data.split import SPLITS, split_by_content
from training.exceptions import DataError
from training.fit.runs import Run


@dataclass(frozen=True, slots=True)
class Target:
    """A model, the run that trained it, and the samples to read."""

    recognizer: Recognizer
    run: Run
    dataset: Dataset
    split: str
    samples: list[Sample]

    @property
    def folder(self) -> Path:
        """The folder for results; created if it is missing."""
        folder = self.run.folder / "evaluation"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def add_target_options(parser: argparse.ArgumentParser, split: str | None = "test") -> None:
    """Adds options for a model, its data and its run, and for a split unless `split` is None."""
    parser.add_argument("--model", type=Path, default=Path("models/captcha.onnx"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    if split is not None:
        parser.add_argument("--split", choices=(*SPLITS, "all"), default=split)


def open_target(arguments: argparse.Namespace, split: str | None = None) -> Target:
    """Opens the model and the split that the options name.

    Args:
        split: a split to use instead of the option.

    Raises:
        ModelError: the model cannot be used.
        DataError: the data cannot be used, or it is unknown which pictures the model has not seen.
    """
    split = split or arguments.split
    recognizer = Recognizer.load(arguments.model)
    run = Run(arguments.runs / recognizer.metadata.training_run)
    dataset = Dataset(arguments.data)
    samples = samples_of(split, dataset, recognizer, run)
    return Target(recognizer, run, dataset, split, samples)


def samples_of(split: str, dataset: Dataset, recognizer: Recognizer, run: Run) -> list[Sample]:
    """The samples of a split, as in the model's run; `all` is the whole data set.

    Raises:
        DataError: it is unknown which samples the model was not trained on.
    """
    if split == "all":
        return dataset.samples
    if run.split_path(split).exists():
        return run.split(split)
    if digest_of(dataset.samples) == recognizer.metadata.data_digest:
        return split_by_content(dataset.samples)[split]
    raise DataError(
        f"the model was trained on other data (run {run.name}), so it is unknown which of "
        f"the pictures in {dataset.folder} it has not seen; SPLIT=all reads all of them."
    )
