from dataclasses import replace

import numpy as np
import pytest

from service.ocr.decoding.ctc import CtcCodec
from tests.training.conftest import HEIGHT, WIDTH
from training.augmentation.policy import Augmentation
from training.augmentation.splicing import Splicing
from training.data.dataset import PADDING, Dataset
from training.data.lazy_images import LazyPictures, StoredPictures, joined
from training.exceptions import DataError
from training.fit.loader import Examples, Feed, generated_examples, labelled_examples

SIZE = (WIDTH, HEIGHT)


@pytest.fixture
def held(dataset: Dataset) -> Examples:
    """The small data set, decoded in memory."""
    codec = CtcCodec("7AB", 3)
    return labelled_examples(dataset, dataset.samples, *SIZE, codec, memory=1)


@pytest.fixture
def stored(dataset: Dataset) -> Examples:
    """The small data set, read from disk picture by picture."""
    codec = CtcCodec("7AB", 3)
    return labelled_examples(dataset, dataset.samples, *SIZE, codec, memory=0)


def test_a_set_that_does_not_fit_is_left_on_disk(held: Examples, stored: Examples) -> None:
    """The limit counts the size of decoded pictures; pictures on disk take no memory."""
    assert isinstance(held.pictures, np.ndarray)
    assert isinstance(stored.pictures, LazyPictures)
    assert stored.pictures.shape == held.pictures.shape == (40, *SIZE, 1)


def test_stored_pictures_are_indexed_like_an_array(held: Examples, stored: Examples) -> None:
    """An index, a slice, and indices in any order give the same pictures as the array."""
    for places in (3, np.int64(39), slice(4, 9), slice(30, 99), np.array([7, 7, 0, 39])):
        assert np.array_equal(held.pictures[places], stored.pictures[places])


def test_concatenated_and_distorted_pictures_are_the_same_from_disk(
    held: Examples, stored: Examples
) -> None:
    """Two distorted copies of a picture differ."""
    augmentation = Augmentation(clean=0.0)
    ours = held + held.distorted(augmentation, seed=5)
    theirs = stored + stored.distorted(augmentation, seed=5)
    assert isinstance(theirs.pictures, LazyPictures)
    assert theirs.pictures.shape == ours.pictures.shape == (80, *SIZE, 1)
    places = np.array([79, 0, 41, 60, 39, 40])
    assert np.array_equal(ours.pictures[places], theirs.pictures[places])
    assert np.array_equal(ours.pictures[:], theirs.pictures[:])
    mixed = joined(held.pictures, stored.pictures)
    assert np.array_equal(mixed[38:42], joined(held.pictures, held.pictures)[38:42])


@pytest.mark.parametrize("strength", [None, 0.7])
def test_an_epoch_is_the_same_from_memory_and_from_disk(
    held: Examples, stored: Examples, strength: float | None
) -> None:
    """The batches have the same pictures in the same order."""
    feeds = [
        Feed(examples, examples, 4, Augmentation(), batch_size=7, seed=1)
        for examples in (held, stored)
    ]
    for ours, theirs in zip(*(feed.batches(2, strength) for feed in feeds), strict=True):
        assert all(map(np.array_equal, ours, theirs))


def test_an_epoch_can_be_shortened(held: Examples) -> None:
    """A shortened epoch has the given number of steps; the next epoch has other pictures."""
    feed = Feed(held, held, 0, Augmentation(), batch_size=8, seed=1, steps=2)
    epochs = [[pictures for pictures, _ in feed.batches(epoch, None)] for epoch in (1, 2)]
    assert [len(batches) for batches in epochs] == [2, 2]
    assert not np.array_equal(epochs[0][0], epochs[1][0])


def test_labelled_pictures_of_a_distorted_epoch_may_be_joined(held: Examples) -> None:
    """Generated pictures and clean epochs stay unchanged; the same epoch has the same joints."""
    middles = [np.array([WIDTH // 2]) for _ in held.texts]
    splicing = Splicing(held.pictures, held.labels, middles, chance=1.0)
    generated = [2] + [PADDING] * (held.labels.shape[1] - 1)  # no labelled text is as short
    other = Examples(held.pictures, np.array([generated] * 40, np.int32), held.texts)
    feed = Feed(held, held + other, 0, Augmentation(clean=1.0), batch_size=8, seed=1)

    def rows(strength: float | None, splicing: Splicing | None = None) -> list[list[int]]:
        batches = feed.batches(2, strength, splicing)
        return [row for _, labels in batches for row in labels.tolist()]

    plain, joined_rows = rows(0.5), rows(0.5, splicing)
    assert joined_rows == rows(0.5, splicing) != plain
    assert rows(None, splicing) == rows(None)
    assert [row for row in plain if row == generated] == [
        after for before, after in zip(plain, joined_rows, strict=True) if before == generated
    ]


def test_a_picture_that_vanishes_from_disk_is_named(dataset: Dataset) -> None:
    """A training does not skip the picture."""
    gone = replace(dataset.samples[0], sha256="0" * 64)
    pictures = StoredPictures(dataset, [gone], *SIZE)
    with pytest.raises(DataError, match=r"no longer holds the picture"):
        pictures[0]


def test_generated_texts_fit_their_time_steps() -> None:
    """For narrow pictures, texts with too many equal neighbours are not drawn."""
    codec = CtcCodec("07", 2)
    labels = np.array([codec.encode("070707", 6)] * 4, np.int32)
    narrow = Examples(np.random.default_rng(0).random((4, 24, 40, 1), np.float32), labels,
                      ["070707"] * 4)  # fmt: skip
    drawn = generated_examples(narrow, 2, codec, seed=0)
    assert set(drawn.texts) <= {"070707", "707070"}
    assert drawn.pictures.shape == (2, 24, 40, 1)
