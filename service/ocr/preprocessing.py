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

_SLOW = 1_000_000
"""Pixels × pixel cost from which a picture takes long: about four times as long as most."""

_ONE_AT_A_TIME = Lock()
"""Held while such a picture is decoded, so that the memory for only one of them is needed."""

_REDUCED_PIXELS = 1 << 17
"""Pictures of more pixels are reduced by whole factors before they are stretched."""

_GRAY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I")

_LUMA = {1: (1.0,), 3: (0.299, 0.587, 0.114)}
"""The weights of the channels in luma (ITU-R BT.601)."""

_LIGHT = 0.6
"""Mean luma from which the visible part of a mostly transparent picture counts as light."""

# Pillow's warnings quote the file, and Python keeps the text of every warning it has shown.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.simplefilter("error", Image.DecompressionBombWarning)


class Region(NamedTuple):
    """A part of an upright picture, in its pixels; `x` and `y` are of the part's top left corner.

    Width and height are at least 1.
    """

    x: int
    y: int
    width: int
    height: int


class ModelInput(NamedTuple):
    """A preprocessed picture: the tensor, and the size of the upright picture, or of the region of
    it, in pixels.
    """

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
    (bilinear, anti-aliased; large pictures are first averaged over blocks of pixels). Of an
    animation, the first frame counts. Transparent pictures are composited on white; on black where
    most of the area is transparent and what is visible is light, as white text on a transparent
    ground is.

    Args:
        data: an encoded picture in one of `service.ocr.formats.FORMATS`.
        width, height: the model's picture size in pixels.
        channels: 1 for luma (ITU-R BT.601), 3 for red, green and blue.
        max_pixels: checked against the header, before anything is decoded; formats that cost
            more to decode are allowed fewer pixels.

    Returns:
        Float32 `(width, height, channels)`, time axis (x) first, 0 black to 1 white.

    Raises:
        UnsupportedFormatError: not one of the formats.
        UndecodableError: broken, cut short, or of a kind that takes very long to decode.
        PictureTooLargeError: more pixels than are allowed.
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
    """Gives what `preprocess` gives, and the size of the picture; it takes the same arguments.

    Args:
        region: the only part of the picture to take; None: all of it.
        slow: whether to decode a picture that takes long; its header tells.

    Raises:
        SlowPictureError: it takes long, and `slow` is False.
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
        PictureError: the picture, or what is made of it in the `with` block, is at fault.
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
            f"all, and {MAX_SIDE} a side, are read of {picture_format.name} pictures of this kind. "
            + SMALLER
        )
    if width == 0 or height == 0:
        raise UndecodableError(f"The picture has {width}×{height} pixels: none.")
    if cost > _SLOW and not slow:
        raise SlowPictureError(f"The picture has {width}×{height} pixels, which takes long.")
    try:
        with _ONE_AT_A_TIME if cost > _SLOW else nullcontext():
            image.load()
            image = picture_format.finish(image, data)
            tags = image.info.get("exif")
            transpose = _TRANSPOSES.get(exif.orientation(tags)) if tags else None
            yield image if transpose is None else image.transpose(transpose)
    except RegionError:
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
    except Exception as error:
        raise UndecodableError(f"The {name} header cannot be read.") from error


def _planes(image: Image.Image, channels: int, size: tuple[int, int]) -> FloatArray:
    """A picture of any mode as float32 `(channels, height, width)` of a size, composited."""
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
    """Colours, `(channels, height, width)`, and alpha, `(1, height, width)`, if there is any.

    A picture that is much larger than `size` is reduced to two to four times of it, which bounds
    the memory and the time of what follows.
    """
    if _is_transparent(image):
        image = image.convert("RGBA")
        if channels == 1:
            image = image.convert("LA")
    else:
        if image.mode == "CMYK":
            # Straight to L would skip Pillow's colour conversion and read the inks as RGB.
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
    """The same of 16-bit gray, which Pillow's conversions would clip at 255."""
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
    """Puts colours, which are multiplied by alpha, on white or black; see `preprocess`."""
    visible = alpha.mean()
    luma = np.dot(_LUMA[len(premultiplied)], premultiplied.mean(axis=(1, 2)))
    on_black = visible < 0.5 and luma > _LIGHT * visible
    return premultiplied if on_black else premultiplied + (1 - alpha)


def _is_transparent(image: Image.Image) -> bool:
    if image.mode in ("RGBA", "LA"):  # most pictures with an alpha channel are opaque
        return image.getchannel("A").getextrema() != (255, 255)
    return image.has_transparency_data
