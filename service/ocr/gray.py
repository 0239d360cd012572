"""From a decoded picture to gray, a band at a time.

A picture of four megapixels takes 16 MB as float32, and several times that while it becomes gray.
Bands, of rows or of columns, keep all of this small: of a picture as a whole there are only
Pillow's own pixels.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FloatArray = NDArray[np.float32]

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""

_BAND_PIXELS = 1 << 17
_WHITE = np.float32(1)
_FULL = np.float32(255)


def gray(image: Image.Image) -> FloatArray:
    """A picture of any mode as float32 `(height, width)`, 0 to 1, on white."""
    if _is_small(image):
        return _gray(image, _is_transparent(image))
    whole = np.empty((image.height, image.width), np.float32)
    for (left, top, right, bottom), band in _bands(image, tall=False):
        whole[top:bottom, left:right] = band
    return whole


def stretched(image: Image.Image, width: int, height: int) -> FloatArray:
    """What `gray` gives, stretched to `(height, width)`: bilinear, anti-aliased.

    Rows are stretched apart from columns, in whichever order Pillow finds cheaper. Of bands it is
    first the side that shrinks the most, which at most changes the last bit.
    """
    if _is_small(image):
        return _resized(gray(image), width, height)
    tall = image.height * width > image.width * height
    size = (height, image.width) if tall else (image.height, width)
    partly = np.empty(size, np.float32)
    for (left, top, right, bottom), band in _bands(image, tall):
        if tall:
            partly[:, left:right] = _resized(band, right - left, height)
        else:
            partly[top:bottom] = _resized(band, width, bottom - top)
    return _resized(partly, width, height)


def _is_small(image: Image.Image) -> bool:
    return image.width * image.height <= _BAND_PIXELS


def _resized(pixels: FloatArray, width: int, height: int) -> FloatArray:
    if pixels.shape == (height, width):
        return pixels
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _bands(image: Image.Image, tall: bool) -> Iterator[tuple[Box, FloatArray]]:
    """Where each band is, and its gray; bands are upright where `tall`, else level."""
    transparent = _is_transparent(image)
    along, across = (image.height, image.width) if tall else (image.width, image.height)
    thickness = max(1, _BAND_PIXELS // along)
    for start in range(0, across, thickness):
        end = min(across, start + thickness)
        box = (start, 0, end, image.height) if tall else (0, start, image.width, end)
        yield box, _gray(image.crop(box), transparent)


def _is_transparent(image: Image.Image) -> bool:
    return image.has_transparency_data and not _is_opaque(image)


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
    if image.mode != "L":
        image = image.convert("L")
    return np.asarray(image, np.float32) / _FULL


def _is_opaque(image: Image.Image) -> bool:
    """Whether an alpha channel hides nothing, as in most pictures that have one."""
    return image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema() == (255, 255)


def _of_sixteen_bits(image: Image.Image) -> FloatArray:
    """16-bit gray, which `Image.convert("L")` would clip at 255, scaled to 0–1."""
    samples = np.asarray(image, np.float32)
    scaled = samples / np.float32(65535)
    key = image.info.get("transparency")
    return scaled if key is None else np.where(samples == key, _WHITE, scaled)
