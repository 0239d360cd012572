"""Reads labelled pictures that a model was not trained on, clean and distorted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from service.ocr.preprocessing import FloatArray
from service.ocr.recognizer import Recognizer
from training.augmentation.policy import Augmentation
from training.data.dataset import Dataset, Sample
from training.data.label_errors import Opinion, find_suspicious
from training.data.lazy_images import distort
from training.evaluation.evaluate import Result, write_results
from training.evaluation.metrics import wilson_interval
from training.fit.runs import Run

COPIES = 20
"""Number of copies of every picture, each with another distortion."""
_MOST_PICTURES = 500
"""Greatest number of pictures: their copies are plenty to fit a few parameters."""
_SEED = 20


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Pictures and their class probabilities.

    Args:
        samples: `n` labelled pictures.
        clean: `(n, time steps, classes)`.
        distorted: `(COPIES, n, time steps, classes)`.
    """

    samples: list[Sample]
    clean: NDArray[np.float32]
    distorted: NDArray[np.float32]

    @property
    def labels(self) -> list[str]:
        """The label of every sample."""
        return [sample.label for sample in self.samples]

    @classmethod
    def of(
        cls,
        recognizer: Recognizer,
        dataset: Dataset,
        samples: Sequence[Sample],
        augmentation: Augmentation,
    ) -> Self:
        """Runs a model on samples that it was not trained on."""
        samples = list(samples[:_MOST_PICTURES])
        model = recognizer.metadata
        tensors = dataset.tensors(samples, model.width, model.height, model.channels)
        copies = distorted_copies(tensors, augmentation)
        return cls(
            samples,
            recognizer.infer(tensors),
            np.stack([recognizer.infer(copy) for copy in copies]),
        )

    def save(self, run: Run) -> None:
        """Stores the pictures' digests and probabilities in a run's folder, for `load`."""
        path = _path(run)
        temporary = path.with_name(f".{path.name}")
        np.savez_compressed(
            temporary,
            sha256=np.array([sample.sha256 for sample in self.samples]),
            clean=self.clean.astype(np.float16),
            distorted=self.distorted.astype(np.float16),
        )
        temporary.replace(path)

    @classmethod
    def load(cls, run: Run) -> Self | None:
        """Loads what `save` stored with a run; None if there is nothing."""
        if not is_cross_fitted(run):
            return None
        samples = {one.sha256: one for one in run.split("train") + run.split("validation")}
        with np.load(_path(run)) as stored:
            return cls(
                [samples[digest] for digest in stored["sha256"].tolist()],
                stored["clean"].astype(np.float32),
                stored["distorted"].astype(np.float32),
            )


def is_cross_fitted(run: Run) -> bool:
    """Whether a run has stored readings of each half by a model of the other half."""
    return _path(run).exists()


def held_out_of(run: Run, recognizer: Recognizer, dataset: Dataset) -> HeldOut:
    """Readings of a run's labelled pictures by models that were not trained on them.

    The pictures are both halves if the run was cross-fitted, else the validation split, or the test
    split if the run was trained on the validation split.
    """
    config = run.config
    samples = run.split("test" if config.train_on_validation else "validation")
    return HeldOut.load(run) or HeldOut.of(recognizer, dataset, samples, config.augmentation)


def report_held_out(run: Run, results: Sequence[Result]) -> str:
    """Lists held-out labels in doubt, and how well models of half of the labels read, if known.

    Args:
        results: readings of the pictures of `held_out_of`, with calibrated confidences. They are
            also written to the run as a table.
    """
    write_results(run.folder / "evaluation", "held-out", results)
    lines = []
    if is_cross_fitted(run):
        exact, count = sum(result.is_right for result in results), len(results)
        low, high = wilson_interval(exact, count)
        lines.append(
            f"trained on half of the {count} labelled pictures, two models read {exact} in the "
            f"other half: {exact / count:.2f} (95 % interval {low:.2f} to {high:.2f}). The model "
            "itself was trained on all of them. The lower this share is, the more "
            "additional labels help"
        )
    opinions = {
        result.sample.sha256: Opinion(result.reading.text, result.reading.confidence)
        for result in results
    }
    doubted = find_suspicious([result.sample for result in results], opinions)
    lines += [
        f"is the label right? {one.sample.source} is {one.sample.label!r}, read as "
        f"{one.opinion.text!r} with confidence {one.opinion.confidence:.3f}"
        for one in doubted
    ]
    if doubted:
        table = run.folder / "evaluation" / "held-out.csv"
        lines.append(f"`make inspect READINGS={table}` shows them")
    return "\n".join(lines)


def distorted_copies(tensors: FloatArray, augmentation: Augmentation) -> Iterator[FloatArray]:
    """`COPIES` batches like `tensors`; each picture is distorted with a random strength."""
    for copy in range(COPIES):
        batch = np.empty_like(tensors)
        for number, tensor in enumerate(tensors):
            generator = np.random.default_rng((_SEED, copy, number))
            batch[number] = distort(tensor, augmentation, generator.random(), generator)
        yield batch


def _path(run: Run) -> Path:
    return run.folder / "cross-fit.npz"
