"""Turns the bytes of a picture into the model's input tensor.

`preprocess` is the contract between training and serving: both call it, so a model is trained on
exactly what it is later asked to read. This module knows neither the model nor where the bytes
came from.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.ocr.exceptions import (
    PictureTooLargeError,
    RegionError,
    SlowPictureError,
    UndecodableError,
    UnsupportedFormatError,
)
from service.ocr.formats import FORMATS, exif, sniff

FloatArray = NDArray[np.float32]

DEFAULT_MAX_PIXELS = 4_000_000
"""Width × height above which a picture is refused before it is decoded."""

MAX_SIDE = 16_384
"""Width or height above which a picture is refused before it is decoded."""

SMALLER = "Shrink large pictures, or crop them to the text, before they are sent."
"""What to do with a picture that is too large."""

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that an EXIF orientation asks for (CIPA DC-008, section 4.6.5.1)."""

_SLOW_COST = 1_000_000
"""Pixels × pixel cost above which a picture is slow: it takes about four times as long as most."""

_SLOW_LOCK = Lock()
"""Held while a slow picture is decoded, so that only one at a time takes memory."""

_REDUCED_PIXELS = 1 << 17
"""Pictures with more pixels are reduced by integer factors before they are stretched."""

_GRAY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I")

_LUMA = {1: (1.0,), 3: (0.299, 0.587, 0.114)}
"""The weights of the channels in luma (ITU-R BT.601)."""

_MIN_LIGHT_LUMA = 0.6
"""Mean luma from which the visible part of a mostly transparent picture counts as light."""

# Pillow's warnings quote the file, and Python keeps the text of every warning it has shown.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.simplefilter("error", Image.DecompressionBombWarning)


class Region(NamedTuple):
    """A part of an upright picture, in pixels; `x` and `y` locate the top left corner of the part.

    Width and height are at least 1.
    """

    x: int
    y: int
    width: int
    height: int


class ModelInput(NamedTuple):
    """The tensor of a picture, and the size of the upright picture or its region, in pixels."""

    tensor: FloatArray
    width: int
    height: int


def preprocess(
    data: bytes,
    width: int,
    height: int,
    channels: int = 1,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> FloatArray:
    """Decodes one picture into the tensor that a model takes.

    The picture is turned upright by its EXIF orientation and stretched to the given size
    (bilinear, anti-aliased; large pictures are first averaged over blocks of pixels). Only the
    first frame of an animation is read. Transparent pictures are composited on white; on black if
    most of the area is transparent and the visible part is light, such as white text on a
    transparent background.

    Args:
        data: an encoded picture in one of `service.ocr.formats.FORMATS`.
        width, height: the model's picture size in pixels.
        channels: 1 for luma (ITU-R BT.601), 3 for red, green and blue.
        max_pixels: checked against the header, before anything is decoded; formats that cost
            more to decode are allowed fewer pixels.

    Returns:
        Float32 `(width, height, channels)`, time axis (x) first, 0 black to 1 white.

    Raises:
        UnsupportedFormatError: the picture has none of the formats.
        UndecodableError: it is broken, cut short, or of a kind that takes very long to decode.
        PictureTooLargeError: it has more pixels than are allowed.
    """
    return to_model_input(data, width, height, channels, max_pixels=max_pixels).tensor


def to_model_input(
    data: bytes,
    width: int,
    height: int,
    channels: int = 1,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    region: Region | None = None,
    slow: bool = True,
) -> ModelInput:
    """Returns what `preprocess` returns, and the size of the picture; takes the same arguments.

    Args:
        region: the only part of the picture to take; None: all of it.
        slow: whether to decode a picture that takes long, according to its header.

    Raises:
        SlowPictureError: the picture takes long, and `slow` is False.
        RegionError: the region is not within the picture.
    """
    with _decoded(data, max_pixels, slow) as image:
        if region is not None:
            image = _cropped(image, region)
        planes = _planes(image, channels, (width, height))
        return ModelInput(np.ascontiguousarray(planes.T), *image.size)


def decode_gray(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> FloatArray:
    """Decodes one picture at its own size: float32 `(height, width)`, 0 black to 1 white.

    Arguments and errors are those of `preprocess`.
    """
    with _decoded(data, max_pixels) as image:
        return _planes(image, 1, image.size)[0]


def decode_rgb(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> FloatArray:
    """Decodes one picture at its own size: float32 `(height, width, 3)`, RGB, 0 to 1.

    Arguments and errors are those of `preprocess`.
    """
    with _decoded(data, max_pixels) as image:
        return np.ascontiguousarray(np.moveaxis(_planes(image, 3, image.size), 0, -1))


@contextmanager
def _decoded(data: bytes, max_pixels: int, slow: bool = True) -> Iterator[Image.Image]:
    """Gives the decoded, upright picture.

    Raises:
        PictureError: the picture cannot be decoded, or the `with` block fails on it.
    """
    if not data:
        raise UndecodableError("The picture is empty: 0 bytes were sent.")
    picture_format = sniff(data)
    if picture_format is None:
        raise UnsupportedFormatError(
            "Not a picture in a format that is read here; send one of "
            f"{', '.join(known.name for known in FORMATS)}."
        )
    data, pixel_cost = picture_format.check(data)
    image = _opened(data, picture_format.name, max_pixels)
    width, height = image.size
    cost = width * height * pixel_cost
    if cost > max_pixels or max(image.size) > MAX_SIDE:
        raise PictureTooLargeError(
            f"The picture has {width}×{height} pixels; at most {int(max_pixels / pixel_cost)} in "
            f"all, and {MAX_SIDE} a side, are allowed in {picture_format.name} pictures of this "
            f"kind. {SMALLER}"
        )
    if width == 0 or height == 0:
        raise UndecodableError(f"The picture has no pixels: its size is {width}×{height}.")
    if cost > _SLOW_COST and not slow:
        raise SlowPictureError(f"The picture has {width}×{height} pixels, which takes long.")
    try:
        with _SLOW_LOCK if cost > _SLOW_COST else nullcontext():
            image = picture_format.load(image, data)
            tags = image.info.get("exif")
            transpose = _TRANSPOSES.get(exif.orientation(tags)) if tags else None
            yield image if transpose is None else image.transpose(transpose)
    except (RegionError, MemoryError):
        raise
    except Exception as error:
        # Pillow raises half a dozen unrelated exception types for a broken file.
        raise UndecodableError(
            f"The {picture_format.name} data are broken or cut short."
        ) from error


def _cropped(image: Image.Image, region: Region) -> Image.Image:
    right, bottom = region.x + region.width, region.y + region.height
    if right > image.width or bottom > image.height:
        raise RegionError(
            f"region: {','.join(map(str, region))} was given; it must lie within the picture, "
            f"which has {image.width}×{image.height} pixels."
        )
    return image.crop((region.x, region.y, right, bottom))


def _opened(data: bytes, name: str, max_pixels: int) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=[name])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureTooLargeError(
            f"The picture is too large; at most {max_pixels} pixels are read. {SMALLER}"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        raise UndecodableError(f"The {name} header cannot be read.") from error


def _planes(image: Image.Image, channels: int, size: tuple[int, int]) -> FloatArray:
    """Composites a picture of any mode, as float32 `(channels, height, width)` of this size."""
    if channels > 1 and image.mode in _GRAY_MODES:
        return np.repeat(_planes(image, 1, size), channels, axis=0)
    if image.mode.startswith("I"):
        colours, alpha = _sixteen_bit_planes(image)
    else:
        colours, alpha = _eight_bit_planes(image, channels, size)
    if alpha is None:
        return _stretched(colours, size)
    return _composited(_stretched(colours * alpha, size), _stretched(alpha, size))


def _eight_bit_planes(
    image: Image.Image, channels: int, size: tuple[int, int]
) -> tuple[FloatArray, FloatArray | None]:
    """The colours, `(channels, height, width)`, and the alpha, `(1, height, width)`, if any.

    A picture that is much larger than `size` is reduced to two to four times that size, which
    bounds the memory and the time of the following steps.
    """
    if _is_transparent(image):
        image = image.convert("RGBA")
        if channels == 1:
            image = image.convert("LA")
    else:
        if image.mode == "CMYK":
            # A direct conversion to L would skip Pillow's colour conversion, and read inks as RGB.
            image = image.convert("RGB")
        mode = "L" if channels == 1 else "RGB"
        if image.mode != mode:
            image = image.convert(mode)
    if image.width * image.height > _REDUCED_PIXELS:
        factors = [max(1, own // (2 * side)) for own, side in zip(image.size, size, strict=True)]
        image = image.reduce((factors[0], factors[1]))
    samples = np.asarray(image, np.float32).reshape(image.height, image.width, -1)
    planes = np.ascontiguousarray(np.moveaxis(samples, -1, 0)) / np.float32(255)
    return planes[:channels], planes[channels:] if len(planes) > channels else None


def _sixteen_bit_planes(image: Image.Image) -> tuple[FloatArray, FloatArray | None]:
    """Like `_eight_bit_planes`, for 16-bit gray, which Pillow's conversions would clip at 255."""
    samples = np.asarray(image, np.float32)[np.newaxis]
    key = image.info.get("transparency")
    alpha = None if key is None else (samples != key).astype(np.float32)
    return samples / np.float32(65535), alpha


def _stretched(planes: FloatArray, size: tuple[int, int]) -> FloatArray:
    width, height = size
    if planes.shape[1:] == (height, width):
        return planes
    resized = [Image.fromarray(p).resize(size, Image.Resampling.BILINEAR) for p in planes]
    return np.stack([np.asarray(plane) for plane in resized])


def _composited(premultiplied: FloatArray, alpha: FloatArray) -> FloatArray:
    """Composites premultiplied colours on white or black; see `preprocess`."""
    visible = alpha.mean()
    luma = np.dot(_LUMA[len(premultiplied)], premultiplied.mean(axis=(1, 2)))
    on_black = visible < 0.5 and luma > _MIN_LIGHT_LUMA * visible
    return premultiplied if on_black else premultiplied + (1 - alpha)


def _is_transparent(image: Image.Image) -> bool:
    if image.mode in ("RGBA", "LA"):  # most pictures with an alpha channel are opaque
        return image.getchannel("A").getextrema() != (255, 255)
    return image.has_transparency_data
