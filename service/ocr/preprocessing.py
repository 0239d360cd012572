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

from service.ocr.exceptions import PictureTooLargeError, UndecodableError, UnsupportedFormatError
from service.ocr.formats import FORMATS, sniff

FloatArray = NDArray[np.float32]

DEFAULT_MAX_PIXELS = 4_000_000
"""Width × height above which a picture is refused before it is decoded."""

MAX_SIDE = 16_384
"""Width or height above which a picture is refused before it is decoded."""

_EXIF_ORIENTATION = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that an EXIF orientation asks for (CIPA DC-008, section 4.6.5.1).

Pillow's `exif_transpose` also rewrites the other tags, which takes seconds where there are many.
"""

_MAX_EXIF_BYTES = 1 << 16
"""A JPEG's EXIF segment holds no more; more tags than that would only cost time."""

_LARGE_PIXELS = 500_000
_LARGE = Lock()
"""Held while a large picture is decoded, so that the memory for only one of them is needed."""

_BAND_PIXELS = 1 << 17
"""Larger pictures are converted to float32 in bands of this size, which bounds the memory."""

_LUMA = {1: (1.0,), 3: (0.299, 0.587, 0.114)}
"""The weights of the channels in luma (ITU-R BT.601)."""

_LIGHT = 0.6
"""Mean luma from which the visible part of a mostly transparent picture counts as light."""

# Pillow's warnings quote the file, and Python keeps the text of every warning it has shown.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.simplefilter("error", Image.DecompressionBombWarning)


class ModelInput(NamedTuple):
    """A preprocessed picture: the tensor, and the size of the picture in pixels, upright."""

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
    (bilinear, anti-aliased). Of an animation, the first frame counts. Transparent pictures are
    composited on white; on black where most of the area is transparent and what is visible is
    light, as white text on a transparent ground is.

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
) -> ModelInput:
    """Gives what `preprocess` gives, and the size of the picture; it takes the same arguments."""
    with _decoded(data, max_pixels) as image:
        planes = _composited(_stretched(image, width, height, channels), channels)
        return ModelInput(np.ascontiguousarray(planes.T), *image.size)


def decode_gray(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> FloatArray:
    """Decodes one picture at its own size: float32 `(height, width)`, 0 black to 1 white.

    Arguments and errors are those of `preprocess`.
    """
    with _decoded(data, max_pixels) as image:
        return _composited(_planes(image, 1, _is_transparent(image)), 1)[0]


def decode_rgb(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> FloatArray:
    """Decodes one picture at its own size: float32 `(height, width, 3)`, RGB, 0 to 1.

    Arguments and errors are those of `preprocess`.
    """
    with _decoded(data, max_pixels) as image:
        planes = _composited(_planes(image, 3, _is_transparent(image)), 3)
        return np.ascontiguousarray(np.moveaxis(planes, 0, -1))


@contextmanager
def _decoded(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
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
    if width * height * pixel_cost > max_pixels or max(image.size) > MAX_SIDE:
        raise PictureTooLargeError(
            f"The picture has {width}×{height} pixels; at most {int(max_pixels / pixel_cost)} in "
            f"all, and {MAX_SIDE} a side, are read of {picture_format.name} pictures of this kind."
        )
    if width == 0 or height == 0:
        raise UndecodableError(f"The picture has {width}×{height} pixels: none.")
    try:
        with _LARGE if width * height > _LARGE_PIXELS else nullcontext():
            image.load()
            image = picture_format.finish(image, data)
            transpose = _transpose(image)
            yield image if transpose is None else image.transpose(transpose)
    except Exception as error:
        # Pillow raises half a dozen unrelated exception types for a broken file.
        raise UndecodableError(
            f"The {picture_format.name} data are broken or cut short."
        ) from error


def _opened(data: bytes, name: str, max_pixels: int) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=[name])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureTooLargeError(
            f"The picture is too large; at most {max_pixels} pixels are read."
        ) from error
    except Exception as error:
        raise UndecodableError(f"The {name} header cannot be read.") from error


def _transpose(image: Image.Image) -> Image.Transpose | None:
    """The transposition that turns the picture upright, if it needs one."""
    if len(image.info.get("exif", b"")) > _MAX_EXIF_BYTES:
        return None
    try:
        return _TRANSPOSES.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        # EXIF data that cannot be read ask for nothing, and the pixels are sound.
        return None


def _composited(planes: FloatArray, channels: int) -> FloatArray:
    """Puts transparent planes, `(channels + 1, height, width)`, on a ground: `(channels, …)`.

    Without a plane of alpha, the planes are left as they are.
    """
    if len(planes) == channels:
        return planes
    colours, alpha = planes[:channels], planes[channels]
    visible = alpha.mean()
    luma = np.dot(_LUMA[channels], colours.mean(axis=(1, 2)))  # times alpha, as the colours are
    on_black = visible < 0.5 and luma > _LIGHT * visible
    return colours if on_black else colours + (1 - alpha)


def _stretched(image: Image.Image, width: int, height: int, channels: int) -> FloatArray:
    """The planes of a picture, `(channels or channels + 1, height, width)`.

    Large pictures are converted in bands. The bands are stretched along the side that shrinks the
    most first, and the whole then along the other, which at most changes the last bit.
    """
    transparent = _is_transparent(image)
    if image.width * image.height <= _BAND_PIXELS:
        return _resized(_planes(image, channels, transparent), width, height)
    upright = image.height * width > image.width * height
    size = (height, image.width) if upright else (image.height, width)
    partly = np.empty((channels + transparent, *size), np.float32)
    along, across = (image.height, image.width) if upright else (image.width, image.height)
    thickness = max(1, _BAND_PIXELS // along)
    for start in range(0, across, thickness):
        end = min(across, start + thickness)
        box = (start, 0, end, image.height) if upright else (0, start, image.width, end)
        band = _planes(image.crop(box), channels, transparent)
        if upright:
            partly[:, :, start:end] = _resized(band, end - start, height)
        else:
            partly[:, start:end] = _resized(band, width, end - start)
    return _resized(partly, width, height)


def _resized(planes: FloatArray, width: int, height: int) -> FloatArray:
    if planes.shape[1:] == (height, width):
        return planes
    size = (width, height)
    resized = [Image.fromarray(p).resize(size, Image.Resampling.BILINEAR) for p in planes]
    return np.stack([np.asarray(plane) for plane in resized])


def _is_transparent(image: Image.Image) -> bool:
    if image.mode in ("RGBA", "LA"):  # most pictures with an alpha channel are opaque
        return image.getchannel("A").getextrema() != (255, 255)
    return image.has_transparency_data


def _planes(image: Image.Image, channels: int, transparent: bool) -> FloatArray:
    """A picture of any mode as float32 `(channels, height, width)`, 0 to 1.

    Where it is transparent, the colours are multiplied by alpha, which is one more plane.
    """
    if image.mode.startswith("I"):
        return _sixteen_bit_planes(image, channels, transparent)
    if not transparent:
        if image.mode == "CMYK":
            # Straight to L would skip Pillow's colour conversion and read the inks as RGB.
            image = image.convert("RGB")
        return _scaled(image.convert("L" if channels == 1 else "RGB"))
    rgba = image.convert("RGBA")
    planes = _scaled(rgba.convert("LA") if channels == 1 else rgba)
    planes[:-1] *= planes[-1]
    return planes


def _scaled(image: Image.Image) -> FloatArray:
    samples = np.asarray(image, np.float32).reshape(image.height, image.width, -1)
    return np.ascontiguousarray(np.moveaxis(samples, -1, 0)) / np.float32(255)


def _sixteen_bit_planes(image: Image.Image, channels: int, transparent: bool) -> FloatArray:
    """16-bit gray, which Pillow's conversions would clip at 255."""
    samples = np.asarray(image, np.float32)
    planes = np.repeat(samples[np.newaxis] / np.float32(65535), channels + transparent, axis=0)
    if transparent:
        planes[-1] = samples != image.info["transparency"]
        planes[:-1] *= planes[-1]
    return planes
