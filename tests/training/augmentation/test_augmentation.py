from dataclasses import replace

import numpy as np
import pytest

from service.ocr.decoding.ctc import CtcCodec
from service.ocr.preprocessing import FloatArray
from training.augmentation.operations import OPERATIONS
from training.augmentation.policy import CHANCES, Augmentation
from training.data.dataset import PADDING
from training.fit.loader import Examples, Feed, generated_examples
from training.synthetic.generate import generate
from training.synthetic.negatives import KINDS, draw_background

NOTHING = Augmentation(**dict.fromkeys(OPERATIONS, 0.0), clean=0.0)


@pytest.fixture(scope="module", params=["gray", "colour"])
def picture(request: pytest.FixtureRequest) -> FloatArray:
    """A generated picture of 200×50 pixels: black on white, or red on green of about equal luma."""
    (drawing,) = generate(1, "abc", (5,), 200, 50, seed=0)
    gray = (np.asarray(drawing.image) / 255).astype(np.float32)
    if request.param == "gray":
        return gray
    return np.stack([1 - gray, gray / 2, 0 * gray], axis=2, dtype=np.float32)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_distorts_more_with_its_amount(name: str, picture: FloatArray) -> None:
    """Shape and range stay; the largest amount changes a picture more than a tiny amount."""
    largest = getattr(Augmentation(), name)
    strong, weak = (
        OPERATIONS[name](picture, amount, np.random.default_rng(5)) for amount in (largest, 1e-9)
    )
    for distorted in (strong, weak):
        assert distorted.shape == picture.shape
        assert -1e-6 <= distorted.min() <= distorted.max() <= 1 + 1e-6
    change = np.abs(strong - picture).mean()
    assert change > 0.002
    if name != "inversion":  # an inversion is never partial
        assert np.abs(weak - picture).mean() < change


def test_the_same_seed_gives_the_same_distortion(picture: FloatArray) -> None:
    """Another seed gives another distortion."""
    first, again, other = (
        Augmentation(clean=0.0).apply(picture, 1.0, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_strength_0_and_the_clean_share_leave_a_picture_unchanged(picture: FloatArray) -> None:
    """`apply` returns the same array."""
    generator = np.random.default_rng(0)
    assert Augmentation().apply(picture, 0.0, generator) is picture
    assert Augmentation(clean=1.0).apply(picture, 1.0, generator) is picture


def test_an_operation_of_amount_0_is_left_out(picture: FloatArray) -> None:
    """Other operations happen as often as their chance says."""
    only_inversion = replace(NOTHING, inversion=1.0)
    inverted = 0
    for seed in range(200):
        distorted = only_inversion.apply(picture, 1.0, np.random.default_rng(seed))
        inverted += np.array_equal(distorted, 1 - picture)
        assert np.array_equal(distorted, 1 - picture) or distorted is picture
    assert 200 * CHANCES["inversion"] == pytest.approx(inverted, abs=20)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_background_has_the_requested_size(kind: str) -> None:
    """All values are finite."""
    for seed in range(5):
        drawn = KINDS[kind](120, 40, np.random.default_rng(seed))
        assert drawn.shape == (40, 120)
        assert np.isfinite(drawn).all()
    assert draw_background(120, 40, np.random.default_rng(0)).dtype == np.float32


@pytest.fixture(scope="module")
def clean() -> Examples:
    """Ten labelled black pictures."""
    codec = CtcCodec("ab", 2)
    labels = np.array([codec.encode("ab", 12)] * 10, np.int32)
    return Examples(np.zeros((10, 48, 16, 1), np.float32), labels, ["ab"] * 10)


@pytest.fixture(scope="module")
def feed(clean: Examples) -> Feed:
    """Ten labelled, five generated and three textless pictures; distorted epochs invert some."""
    rough = clean + generated_examples(clean, 5, CtcCodec("ab", 2), seed=1)
    return Feed(clean, rough, 3, replace(NOTHING, inversion=1.0), batch_size=4, seed=7)


def test_a_clean_epoch_has_the_labelled_pictures_unchanged(feed: Feed) -> None:
    """Each labelled picture comes once, and no other picture comes."""
    batches = list(feed.batches(1, None))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert all((pictures == 0).all() for pictures, _ in batches)


def test_a_distorted_epoch_has_every_picture_once(feed: Feed) -> None:
    """Some pictures are distorted; pictures without text have an empty label."""
    pictures, labels = map(np.concatenate, zip(*feed.batches(1, 1.0), strict=True))
    assert len(pictures) == 18
    assert (labels == PADDING).all(axis=1).sum() == 3
    black, white = (sum((p == level).all() for p in pictures) for level in (0, 1))
    assert black + white == 15, "generated pictures have the style of the labelled ones"
    assert white > 0


def test_epochs_are_reproducible_and_differ(feed: Feed) -> None:
    """An epoch has the same batches every time; the next epoch has another order."""
    first, again, other = (
        np.concatenate([pictures for pictures, _ in feed.batches(epoch, 1.0)])
        for epoch in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_distorted_copies_keep_their_labels(clean: Examples) -> None:
    """Validation uses distorted copies; some copies stay unchanged."""
    copies = clean.distorted(replace(NOTHING, inversion=1.0), seed=0)
    assert copies.pictures.shape == (10, 48, 16, 1)
    assert 0 < np.mean(copies.pictures == 1) < 1
    assert len(copies.labels) == len(copies.texts) == 10
