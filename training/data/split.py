"""Splits pictures into training, validation and test by their content alone.

The samples are ordered by the SHA-256 of their bytes and cut at 80 and 90 percent. Names, order,
folders and seeds do not matter, the same bytes can never be in two splits, and a picture that is
added later moves few others.
"""

from collections.abc import Sequence

from training.data.dataset import Sample
from training.exceptions import DataError

SPLITS = ("train", "validation", "test")
FEWEST_SAMPLES = 10
FOLDS = 10


def split_by_content(samples: Sequence[Sample], fold: int = FOLDS) -> dict[str, list[Sample]]:
    """Cuts the samples 80/10/10 into `SPLITS`.

    Args:
        fold: 1 to `FOLDS`, the tenth that is the test split; validation is the tenth before it.

    Raises:
        DataError: there are fewer than `FEWEST_SAMPLES`, and a split would be empty.
    """
    if len(samples) < FEWEST_SAMPLES:
        raise DataError(
            f"{len(samples)} labelled pictures are too few to split; "
            f"at least {FEWEST_SAMPLES} are needed, a few hundred are sensible."
        )
    ordered = sorted(samples, key=lambda sample: sample.sha256)
    held_out = max(1, round(len(ordered) / FOLDS))
    bounds = [round(k * len(ordered) / FOLDS) for k in range(FOLDS - 1)]
    bounds += [len(ordered) - held_out, len(ordered)]
    start, end = bounds[fold - 1 : fold + 1]
    # In a circle: the last fold comes before the first.
    others = ordered[end:] + ordered[:start]
    return {
        "train": others[:-held_out],
        "validation": others[-held_out:],
        "test": ordered[start:end],
    }
