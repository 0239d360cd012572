"""Checks whether a model can see the text of pictures: contrast in gray, lines of text."""

import io
from collections.abc import Iterable
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.ocr.preprocessing import FloatArray
from training.synthetic.levels import LUMA

MOST_MEASURED = 200
"""Number of pictures that are measured; more would not change the result."""

_HEIGHT = 24
_PART = 8
_CLEAR = 0.04
"""Least contrast, a standard deviation of values from 0 to 1, of a part that shows something."""

_LOST = 0.5
"""Share of its contrast in colour below which a part is hard to see in gray."""

_CARRIED = 0.1
"""Colour carries the text if at least this share of the parts is lost in gray."""

_INK = 0.15
_LOWEST_LINE = 0.1


def colour_carries_text(pictures: Iterable[bytes]) -> bool:
    """Whether gray loses what the eye sees, so that a model needs three channels.

    Cuts each picture into upright parts narrower than most characters. In each part, compares the
    contrast of gray (BT.601 luma) with the contrast of the direction of RGB in which the part
    varies most (its first principal component). The result is true if at least a tenth of the
    parts that show something have less than half of that contrast in gray.

    Args:
        pictures: encoded pictures in any supported format; the first 200 are measured.
    """
    parts = [_contrasts(one) for one in islice(pictures, MOST_MEASURED)]
    if not parts:
        return False
    gray, colour = np.concatenate(parts).T
    shown = colour >= _CLEAR
    lost = shown & (gray < _LOST * colour)
    return bool(lost.sum() >= _CARRIED * max(1, shown.sum()))


def _contrasts(data: bytes) -> NDArray[np.float32]:
    """The contrast of each part in gray and in its best direction of colour: `(parts, 2)`."""
    image = open_rgb(data)
    width = max(_HEIGHT // 2, round(image.width * _HEIGHT / image.height))
    # Scaled down, since noise in colour has contrast too.
    pixels = np.asarray(image.resize((width, _HEIGHT), Image.Resampling.BOX), np.float32) / 255
    contrasts = []
    for part in np.array_split(pixels, max(1, round(width / _PART)), axis=1):
        covariance = np.cov(part.reshape(-1, 3).T)
        # A third, so that both contrasts are equal in a gray picture.
        contrasts.append((LUMA @ covariance @ LUMA, np.linalg.eigvalsh(covariance)[-1] / 3))
    return np.sqrt(np.maximum(contrasts, 0)).astype(np.float32)


def open_rgb(data: bytes) -> Image.Image:
    """Opens a picture in RGB; transparent parts become white."""
    image: Image.Image = Image.open(io.BytesIO(data))
    if image.mode.startswith("I"):  # 16 bits, which `convert` clips at 255
        image = Image.fromarray((np.asarray(image, np.float32) / 257).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def lines_of_text(gray: FloatArray) -> int:
    """The number of lines of text that a picture `(height, width)` seems to have, or 0.

    Counts the bands of rows with ink between rows without ink. Bands much lower than the highest,
    such as dots, do not count. Noise, or a stroke across the gap, joins two lines.
    """
    ink = np.abs(gray - np.median(gray)) > max(_INK, 0.4 * float(np.ptp(gray)))
    rows = ink.any(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], rows.astype(np.int8), [0]))))
    heights = edges[1::2] - edges[::2]
    least = max(_LOWEST_LINE * len(rows), heights.max(initial=0) / 2)
    return int((heights >= least).sum()) or int(rows.any())
