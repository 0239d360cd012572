"""From a decoded picture to gray, a band of its rows at a time.

A picture of four megapixels takes 16 MB as float32, and several times that while it becomes gray.
Bands keep all of this small: of a picture as a whole there are only Pillow's own pixels.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FloatArray = NDArray[np.float32]

_BAND_PIXELS = 1 << 17
_WHITE = np.float32(1)
_FULL = np.float32(255)


def gray(image: Image.Image) -> FloatArray:
    """A picture of any mode as float32 `(height, width)`, 0 to 1, on white."""
    if _rows(image) >= image.height:
        return next(_bands(image))[1]
    whole = np.empty((image.height, image.width), np.float32)
    for top, band in _bands(image):
        whole[top : top + len(band)] = band
    return whole


def stretched(image: Image.Image, width: int, height: int) -> FloatArray:
    """What `gray` gives, stretched to `(height, width)`: bilinear, anti-aliased.

    Rows are stretched apart from columns, in whichever order Pillow finds cheaper. Of bands it is
    rows first, which at most changes the last bit.
    """
    if _rows(image) >= image.height:
        return _resized(gray(image), width, height)
    narrow = np.empty((image.height, width), np.float32)
    for top, band in _bands(image):
        narrow[top : top + len(band)] = _resized(band, width, len(band))
    return _resized(narrow, width, height)


def _rows(image: Image.Image) -> int:
    """Of a band."""
    return max(1, _BAND_PIXELS // image.width)


def _resized(pixels: FloatArray, width: int, height: int) -> FloatArray:
    if pixels.shape == (height, width):
        return pixels
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _bands(image: Image.Image) -> Iterator[tuple[int, FloatArray]]:
    """The first row of each band, and its gray."""
    transparent = image.has_transparency_data and not _is_opaque(image)
    rows = _rows(image)
    for top in range(0, image.height, rows):
        bottom = min(image.height, top + rows)
        band = image.crop((0, top, image.width, bottom)) if rows < image.height else image
        yield top, _gray(band, transparent)


def _gray(image: Image.Image, transparent: bool) -> FloatArray:
    if image.mode.startswith("I"):
        return _of_sixteen_bits(image)
    if transparent:
        luma_alpha = np.asarray(image.convert("RGBA").convert("LA"), np.float32) / _FULL
        luma, alpha = luma_alpha[:, :, 0], luma_alpha[:, :, 1]
        return _WHITE - alpha * (_WHITE - luma)
    if image.mode == "CMYK":
        # Straight to L would skip Pillow's colour conversion and read the inks as RGB.
        image = image.convert("RGB")
    return np.asarray(image.convert("L"), np.float32) / _FULL


def _is_opaque(image: Image.Image) -> bool:
    """Whether an alpha channel hides nothing, as in most pictures that have one."""
    return image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema() == (255, 255)


def _of_sixteen_bits(image: Image.Image) -> FloatArray:
    """16-bit gray, which `Image.convert("L")` would clip at 255, scaled to 0–1."""
    samples = np.asarray(image, np.float32)
    scaled = samples / np.float32(65535)
    key = image.info.get("transparency")
    return scaled if key is None else np.where(samples == key, _WHITE, scaled)
