import itertools

import numpy as np
import pytest

from service.ocr.decoding.ctc import CtcCodec
from training.data.dataset import PADDING
from training.models.loss import ctc_loss, frame_loss


def by_brute_force(probabilities: np.ndarray, text: str, codec: CtcCodec) -> float:
    """The negative logarithm of the summed probabilities of all paths that spell the text."""
    steps, classes = probabilities.shape
    total = 0.0
    for path in itertools.product(range(classes), repeat=steps):
        collapsed = [cls for cls, _ in itertools.groupby(path)]
        if "".join(codec.symbols[cls] for cls in collapsed) == text:
            total += np.prod(probabilities[np.arange(steps), path])
    return -np.log(total)


@pytest.mark.parametrize("blank_index", [0, 2])
def test_the_ctc_loss_sums_over_all_alignments(blank_index: int) -> None:
    """Labels have different lengths, with and without repeats; any class may be the blank."""
    codec = CtcCodec("ab", blank_index)
    texts = ["ab", "aa", "b", "bab"]
    random = np.random.default_rng(0).random((len(texts), 5, 3)).astype(np.float32) + 0.1
    probabilities = random / random.sum(axis=2, keepdims=True)
    labels = np.full((len(texts), 3), PADDING)
    for row, text in zip(labels, texts, strict=True):
        row[: len(text)] = codec.encode(text, time_steps=5)
    found = ctc_loss(blank_index)(labels, probabilities)
    expected = [by_brute_force(p, t, codec) for p, t in zip(probabilities, texts, strict=True)]
    assert np.asarray(found) == pytest.approx(expected, abs=1e-4)


def test_the_frame_loss_is_the_cross_entropy_of_every_time_step() -> None:
    """The loss sums over the time steps of a picture, and is near 0 for certain time steps."""
    probabilities = np.array([[[0.5, 0.5], [0.25, 0.75]], [[1, 0], [0, 1]]], np.float32)
    found = frame_loss(np.array([[0, 0], [0, 1]], np.int32), probabilities)
    assert np.asarray(found) == pytest.approx([np.log(2) + np.log(4), 0], abs=1e-5)
