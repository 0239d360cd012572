from dataclasses import replace

import numpy as np
import pytest

from service.ocr.preprocessing import FloatArray
from training.synthetic.generate import generate
from training.synthetic.manner import Manner
from training.synthetic.manner_fit import manner_of

PLAIN = Manner(
    paper_left=(0.6, 0.6), paper_right=(0.9, 0.9), ink=(0.1, 0.1), noise=(0.0, 0.0),
    left=(0.2, 0.2), middle=(0.5, 0.5), size=(0.6, 0.6), stretch=(0.9, 0.9), spacing=(0.0, 0.0),
    wave=(0.0, 0.0), blur=(0.0, 0.0), frayed=0.0,
)  # fmt: skip


def drawn(manner: Manner, count: int = 30) -> tuple[FloatArray, list[str]]:
    drawings = list(generate(count, "abcdefgh2345", (5,), 200, 50, seed=3, manner=manner))
    pictures = np.stack([np.asarray(drawing.image, np.float32) for drawing in drawings])
    return pictures / np.float32(255), [drawing.text for drawing in drawings]


def test_paper_ink_and_place_are_measured() -> None:
    """The measured figures are those that the pictures were drawn with."""
    found = manner_of(*drawn(replace(PLAIN, curves=())))
    assert np.allclose(found.paper_left, 0.6, atol=0.02)
    assert np.allclose(found.paper_right, 0.9, atol=0.02)
    assert np.allclose(found.ink, 0.1, atol=0.03)
    assert np.mean(found.left) == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("size", [0.5, 0.65])
def test_the_size_of_the_text_is_measured(size: float) -> None:
    """Small characters are measured as small, and wide characters as wide."""
    found = manner_of(*drawn(replace(PLAIN, size=(size, size))))
    assert np.mean(found.size) == pytest.approx(size, rel=0.15)
    wide = manner_of(*drawn(replace(PLAIN, size=(size, size), stretch=(1.2, 1.2))))
    assert np.mean(wide.stretch) > np.mean(found.stretch) * 1.1


def test_light_ink_on_dark_paper_is_measured() -> None:
    """The pictures tell which gray is the ink."""
    dark = replace(PLAIN, paper_left=(0.2, 0.2), paper_right=(0.1, 0.1), ink=(0.9, 0.9))
    found = manner_of(*drawn(dark))
    assert np.allclose(found.ink, 0.9, atol=0.03)
    assert np.allclose(found.paper_left, 0.2, atol=0.02)


def test_pictures_without_contrast_can_be_measured() -> None:
    """The gray of the paper is measured, without an error."""
    flat = np.full((2, 50, 200), 0.5, np.float32)
    assert np.allclose(manner_of(flat, ["ab", "cd"]).paper_left, 0.5)
