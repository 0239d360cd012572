"""Converts between levels, 0 black to 1 white, and images of Pillow."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.ocr.preprocessing import FloatArray

LUMA = np.array((0.299, 0.587, 0.114), np.float32)
"""Weights of red, green and blue in gray, as in BT.601."""


def image_of(levels: NDArray[np.floating[Any]]) -> Image.Image:
    """Levels `(height, width)`, or `(height, width, 3)` in RGB, as an image of 8 bits."""
    return Image.fromarray((levels.clip(0, 1) * 255).round().astype(np.uint8))


def levels_of(image: Image.Image) -> FloatArray:
    """The levels of an image of 8 bits, float32 `(height, width)`, or with three channels."""
    return np.asarray(image, np.float32) / np.float32(255)
