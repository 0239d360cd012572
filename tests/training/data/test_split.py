import itertools

import pytest

from training.data.dataset import Sample
from training.data.split import FOLDS, split_by_content


def samples(count: int) -> list[Sample]:
    return [Sample(f"{number:064x}", "x", 1, 1, "") for number in range(count)]


@pytest.mark.parametrize("count", [10, 11, 15, 16, 25, 104, 1040, 1047])
def test_every_picture_is_in_the_test_split_of_exactly_one_fold(count: int) -> None:
    """Each fold splits the pictures in another way."""
    held_out = []
    for fold in range(1, FOLDS + 1):
        splits = split_by_content(samples(count), fold)
        assert sorted(itertools.chain(*splits.values()), key=lambda s: s.sha256) == samples(count)
        assert all(splits.values())
        held_out += splits["test"]
    assert sorted(held_out, key=lambda s: s.sha256) == samples(count)


def test_the_last_fold_is_the_usual_split() -> None:
    """Training, validation and test get 8, 1 and 1 tenths, in the order of the digests."""
    splits = split_by_content(samples(1040))
    assert splits == split_by_content(samples(1040)[::-1], FOLDS)
    assert splits["test"] == samples(1040)[-104:]
    assert splits["validation"] == samples(1040)[-208:-104]
