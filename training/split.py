"""Training, validation and test: who is in which is decided by the pictures' content alone.

The samples are ordered by the SHA-256 of their bytes and cut at 80 and 90 percent. Names,
order, folders and seeds have no say, the same bytes can never be in two splits, and a
picture that is added later moves few others.
"""

from collections.abc import Sequence

from training.dataset import Sample
from training.exceptions import DataError

SPLITS = ("train", "validation", "test")
FEWEST_SAMPLES = 10


def split_by_content(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Cuts the samples 80/10/10 into `SPLITS`.

    Raises:
        DataError: fewer than `FEWEST_SAMPLES`, so that a split would be empty.
    """
    if len(samples) < FEWEST_SAMPLES:
        raise DataError(
            f"{len(samples)} labelled pictures are too few to split; "
            f"at least {FEWEST_SAMPLES} are needed, a few hundred are sensible."
        )
    ordered = sorted(samples, key=lambda sample: sample.sha256)
    held_out = max(1, round(len(ordered) / 10))
    return {
        "train": ordered[: -2 * held_out],
        "validation": ordered[-2 * held_out : -held_out],
        "test": ordered[-held_out:],
    }
