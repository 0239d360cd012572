"""Inspects a data set: splits, counts, near duplicates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.ocr.exceptions import PictureError
from service.ocr.preprocessing import decode_gray
from training.data.checks import FLAT, Look, look_at
from training.data.dataset import Dataset, Sample
from training.data.duplicates import Fingerprint, find_duplicates, fingerprint
from training.data.label_errors import Suspicion
from training.data.split import FEWEST_SAMPLES, split_by_content
from training.exceptions import DataError

MOST_COMPARED = 20_000
"""Number of pictures that are compared with each other: the time rises with its square."""

SAME_PIXELS = 0.9999
"""Least correlation of two pictures that count as equal."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures that are nearly the same."""

    first: Sample
    second: Sample
    correlation: float
    splits: tuple[str, str]

    @property
    def across(self) -> bool:
        """Whether they are in different splits, so that a figure may rest on a known picture."""
        return self.splits[0] != self.splits[1]


@dataclass(frozen=True, slots=True)
class Inspection:
    """All findings; `suspicions` is None if no model judged the labels.

    `judged` is the number of pictures with an opinion of a model: those whose label the model's
    alphabet can spell.
    """

    samples: Sequence[Sample]
    splits: Mapping[str, str]
    compared: int
    look: Look
    pairs: Sequence[Pair]
    suspicions: Sequence[Suspicion] | None = None
    judged: int = 0

    @property
    def lengths(self) -> Counter[int]:
        """The number of labels of each length."""
        return Counter(len(sample.label) for sample in self.samples)

    @property
    def characters(self) -> Counter[str]:
        """How often each character occurs."""
        return Counter(symbol for sample in self.samples for symbol in sample.label)

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """The number of pictures of each width and height."""
        return Counter((sample.width, sample.height) for sample in self.samples)


def inspect(dataset: Dataset, most_compared: int = MOST_COMPARED) -> Inspection:
    """Looks at every label, and at the pixels of the first `most_compared` pictures.

    Raises:
        DataError: a picture is missing or broken.
    """
    samples = dataset.samples
    splits = {
        sample.sha256: split for split, members in _splits(samples).items() for sample in members
    }
    # Ordered by content: neighbours in a folder may be of one family.
    compared = sorted(samples, key=lambda sample: sample.sha256)[:most_compared]

    def look(sample: Sample) -> tuple[Fingerprint, bool]:
        try:
            gray = decode_gray(dataset.read(sample))
        except PictureError as error:
            raise DataError(f"{sample.source}: {error}") from error
        return fingerprint(gray), bool(gray.std() < FLAT)

    with ThreadPoolExecutor() as pool:
        looks = list(pool.map(look, compared))
    pairs = []
    for duplicate in find_duplicates([print_ for print_, _ in looks]):
        both = compared[duplicate.first], compared[duplicate.second]
        where = splits.get(both[0].sha256, ""), splits.get(both[1].sha256, "")
        pairs.append(Pair(*both, duplicate.correlation, where))
    flat = [sample for sample, (_, is_flat) in zip(compared, looks, strict=True) if is_flat]
    return Inspection(samples, splits, len(compared), look_at(dataset, flat), pairs)


def _splits(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The splits that training would make; empty if the set is too small."""
    return split_by_content(samples) if len(samples) >= FEWEST_SAMPLES else {}
