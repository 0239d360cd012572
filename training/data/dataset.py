"""The prepared data set: a folder with one table of labels and content-addressed pictures.

    data/labels.csv             sha256,label,width,height,source
    data/pictures/<sha256>      the pictures' bytes, unchanged

`make data` writes the data set; everything else in `training` reads it with this module.
"""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median_low

import numpy as np
from numpy.typing import NDArray

from service.ocr.decoding.ctc import CtcCodec, shortest_path
from service.ocr.exceptions import LabelError, PictureError
from service.ocr.preprocessing import FloatArray, preprocess
from training.exceptions import DataError

PADDING = -1
"""Fills the label matrix after the end of a label; no class has this index."""

PIXELS_PER_TIME_STEP = 4
"""Columns of the picture per time step: every architecture pools the width twice by 2."""

WORKING_HEIGHT = 50
WORKING_WIDTHS = (200, 320, 480, 640)
"""Sizes to which pictures are scaled: few, so that models of different families are alike."""

_FREE_TIME_STEPS = 1.5
"""Time steps per time step that the label needs, so that CTC has a choice."""

_STRETCH = 1.25
"""Greatest ratio of the aspect of the median picture to that of the model's pictures."""

_FEW = 256
"""Number of pictures up to which threads cost more than they save."""


def time_steps_of(width: int) -> int:
    """The number of time steps that a model outputs for pictures of this width."""
    return width // PIXELS_PER_TIME_STEP


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture: the digest of its bytes, its text, its size and its origin."""

    sha256: str
    label: str
    width: int
    height: int
    source: str


_COLUMNS = [field.name for field in fields(Sample)]


def is_dataset(folder: Path) -> bool:
    """Whether `make data` wrote this folder, by the columns of its table."""
    try:
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
            return file.readline().strip() == ",".join(_COLUMNS)
    except (OSError, UnicodeDecodeError):
        return False


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Writes samples as CSV, one row each."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(asdict(sample) for sample in samples)


def read_samples(path: Path) -> list[Sample]:
    """Reads a table that `write_samples` wrote.

    Raises:
        DataError: the file is missing, or is another table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            if next(rows, None) != _COLUMNS:
                raise DataError(
                    f"{path} was not written by `make data`; pass this folder to it: "
                    f"make data DATA={path.parent}"
                )
            return [
                Sample(digest, label, int(width), int(height), source)
                for digest, label, width, height, source in rows
            ]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; `make data` makes the data set.") from None


class Dataset:
    """A prepared data set on disk.

    Raises:
        DataError: the folder has no data set.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples = read_samples(folder / "labels.csv")

    def read(self, sample: Sample) -> bytes:
        """The bytes of one picture.

        Raises:
            DataError: the picture is missing.
        """
        try:
            return (self.folder / "pictures" / sample.sha256).read_bytes()
        except FileNotFoundError:
            raise DataError(
                f"{self.folder} no longer holds the picture {sample.source} "
                f"(label {sample.label!r}); run `make data` with the data it came from."
            ) from None

    def tensors(
        self, samples: Sequence[Sample], width: int, height: int, channels: int = 1
    ) -> FloatArray:
        """Preprocesses every sample with the service's own `preprocess`.

        Returns:
            Float32 `(n, width, height, channels)`, 0 to 1.
        """
        tensors = np.empty((len(samples), width, height, channels), np.float32)

        def fill(index: int) -> None:
            try:
                tensors[index] = preprocess(self.read(samples[index]), width, height, channels)
            except PictureError as error:
                raise DataError(f"{samples[index].source}: {error}") from error

        if len(samples) <= _FEW:
            for index in range(len(samples)):
                fill(index)
            return tensors
        with ThreadPoolExecutor() as pool:
            list(pool.map(fill, range(len(samples))))
        return tensors


def alphabet_of(samples: Iterable[Sample]) -> str:
    """Every symbol that occurs in the labels, in the order of code points."""
    return "".join(sorted({symbol for sample in samples for symbol in sample.label}))


def picture_size_of(samples: Sequence[Sample]) -> tuple[int, int]:
    """The median width and median height of samples, at least one, in pixels."""
    return (
        median_low(sample.width for sample in samples),
        median_low(sample.height for sample in samples),
    )


def longest_usual(samples: Sequence[Sample]) -> int:
    """Longest usual label of samples, at least one, in characters; longer ones are outliers."""
    return 2 * median_low(len(sample.label) for sample in samples) + 4


def working_size(samples: Sequence[Sample]) -> tuple[int, int]:
    """The (width, height) in pixels of the input of a model for these pictures.

    200×50, or a greater width of `WORKING_WIDTHS` if the median picture has a wider shape or labels
    need more time steps. Outliers are ignored: single pictures, and labels longer than
    `longest_usual`.

    Args:
        samples: at least one sample.
    """
    shape = median_low(sample.width / sample.height for sample in samples)
    limit = longest_usual(samples)
    labels = [sample.label for sample in samples if len(sample.label) <= limit]
    steps = max(map(shortest_path, labels))
    for width in WORKING_WIDTHS:
        wide_enough = shape <= _STRETCH * width / WORKING_HEIGHT
        if wide_enough and time_steps_of(width) >= _FREE_TIME_STEPS * steps:
            break
    return width, WORKING_HEIGHT


def digest_of(samples: Iterable[Sample]) -> str:
    """SHA-256 over the sorted lines `<sha256> <label>`; it depends only on the content."""
    lines = sorted(f"{sample.sha256} {sample.label}\n" for sample in samples)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def encode_labels(samples: Sequence[Sample], codec: CtcCodec, time_steps: int) -> NDArray[np.int32]:
    """The labels as classes, `(n, longest label)`, filled up with `PADDING`.

    Raises:
        DataError: the model cannot emit a label; names every such file.
    """
    encoded, refused = [], []
    for sample in samples:
        try:
            encoded.append(codec.encode(sample.label, time_steps))
        except LabelError as error:
            refused.append(f"{sample.source}: {error}")
    if refused:
        raise DataError("labels that the model cannot emit:\n  " + "\n  ".join(refused))
    labels = np.full((len(encoded), max(map(len, encoded), default=0)), PADDING, np.int32)
    for row, classes in zip(labels, encoded, strict=True):
        row[: len(classes)] = classes
    return labels
