"""From the bytes of a picture to the model's input tensor.

This function is the contract between training and serving: both call it, so what the model
was trained on and what it is asked to read cannot drift apart. It knows neither the model
nor where the bytes came from.
"""

import io
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from service.ocr.exceptions import PictureTooLargeError, UndecodableError, UnsupportedFormatError
from service.ocr.formats import gif, jpeg
from service.ocr.formats.png import SIGNATURE, Pixels, lacks_rows, plain_pixels, without_metadata
from service.ocr.gray import FloatArray as FloatArray
from service.ocr.gray import gray, stretched

DEFAULT_MAX_PIXELS = 4_000_000
"""Width × height above which a picture is refused unread."""

MAX_SIDE = 16_384
"""Width and height above which a picture is refused unread, few as its pixels may be."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its orientation (CIPA DC-008, section 4.6.5.1). Pillow's
`exif_transpose` also writes the other tags anew, which takes seconds where there are many."""

_MOST_EXIF_BYTES = 1 << 16
"""A JPEG has no room for more in its one segment of Exif, nor has what is made from it."""

_BMP_COMPRESSION = slice(30, 34)
_RUN_LENGTHS = (b"\1\0\0\0", b"\2\0\0\0")
"""Of 8 and of 4 bits a pixel, which Pillow decodes in Python."""

_BIT_DEPTH_OFFSET = 24
_INTERLACE_OFFSET = 28
"""Where a PNG states how many bits a sample has, and whether its rows come in passes (W3C PNG,
third edition, section 11.2.1)."""

_LARGE_PIXELS = 500_000
_LARGE = Lock()
"""Held while a large picture is decoded: as many at once as there are threads would need memory for
all of them, which is had for little while pictures are small."""

T = TypeVar("T")

# What Pillow warns of has figures of the file in it, and Python keeps every text that it has shown.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.simplefilter("error", Image.DecompressionBombWarning)


def sniff_format(data: bytes) -> str | None:
    """The picture format that the first bytes claim, one of `FORMATS`, or None."""
    if data.startswith(SIGNATURE):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    return None


def preprocess(
    data: bytes, width: int, height: int, max_pixels: int = DEFAULT_MAX_PIXELS
) -> FloatArray:
    """Decode one picture into the tensor that the model takes.

    Args:
        data: an encoded picture, in one of `FORMATS`; of an animation the first frame counts.
        width, height: the model's picture size in pixels; another size is stretched to it
            (bilinear, anti-aliased).
        max_pixels: checked against the header, before anything is decoded.

    Returns:
        Float32 `(width, height, 1)`, time axis (x) first, 0 black to 1 white: ITU-R BT.601
        luma, transparency composited on white, EXIF orientation applied.

    Raises:
        UnsupportedFormatError, UndecodableError, PictureTooLargeError
    """
    return fit(data, width, height, max_pixels).tensor


class Fitted(NamedTuple):
    """A picture as the model takes it, and its own size."""

    tensor: FloatArray
    width: int
    height: int


def fit(data: bytes, width: int, height: int, max_pixels: int = DEFAULT_MAX_PIXELS) -> Fitted:
    """What `preprocess` gives, and how large the picture was; arguments and errors are the same."""

    def fitted(image: Image.Image) -> Fitted:
        tensor = np.ascontiguousarray(stretched(image, width, height).T)[:, :, np.newaxis]
        return Fitted(tensor, *image.size)

    return _decoded(data, max_pixels, fitted)


def decode_gray(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> FloatArray:
    """Decode one picture at its own size: float32 `(height, width)`, 0 black to 1 white.

    Arguments and errors are those of `preprocess`.
    """
    return _decoded(data, max_pixels, gray)


class _Undecoded(NamedTuple):
    """A picture whose size is known, and what decodes it upright."""

    size: tuple[int, int]
    decode: Callable[[], Image.Image]


def _decoded(data: bytes, max_pixels: int, use: Callable[[Image.Image], T]) -> T:
    """What is made of a decoded picture."""
    picture_format = _checked_format(data)
    pixels = None
    if picture_format == "PNG":
        data = without_metadata(data)
        pixels = plain_pixels(data)
    elif picture_format == "JPEG":
        data = jpeg.checked(data)
    elif picture_format == "GIF":
        data = gif.without_extensions(data)
    picture = _plain(data, pixels) if pixels else _opened(data, picture_format, max_pixels)
    width, height = picture.size
    if width * height > max_pixels or max(picture.size) > MAX_SIDE:
        raise PictureTooLargeError(
            f"The picture has {width}×{height} pixels; "
            f"at most {max_pixels} in all, and {MAX_SIDE} a side, are read."
        )
    if width == 0 or height == 0:
        raise UndecodableError(f"The picture has {width}×{height} pixels: none.")
    try:
        with _LARGE if width * height > _LARGE_PIXELS else nullcontext():
            try:
                return use(picture.decode())
            finally:
                del picture  # before the next one is decoded
    except Exception as error:
        # Pillow answers a broken file with half a dozen unrelated exception types.
        raise UndecodableError(f"The {picture_format} data are broken or cut short.") from error


def _checked_format(data: bytes) -> str:
    """One of `FORMATS`, of what does not look as if it took very long to decode."""
    if not data:
        raise UndecodableError("The picture is empty: 0 bytes were sent.")
    picture_format = sniff_format(data)
    if picture_format is None:
        raise UnsupportedFormatError(
            f"Not a picture in a format that is read here; send one of {', '.join(FORMATS)}."
        )
    if picture_format == "BMP" and data[_BMP_COMPRESSION] in _RUN_LENGTHS:
        raise UndecodableError("The BMP is run-length encoded; save it uncompressed, or as a PNG.")
    return picture_format


def _plain(data: bytes, pixels: Pixels) -> _Undecoded:
    mode, size, stream = pixels

    def decode() -> Image.Image:
        image = Image.frombytes(mode, size, stream, "zip", mode)
        _check_rows(image, data)
        return image

    return _Undecoded(size, decode)


def _opened(data: bytes, picture_format: str, max_pixels: int) -> _Undecoded:
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=[picture_format])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureTooLargeError(
            f"The picture is too large; at most {max_pixels} pixels are read."
        ) from error
    except Exception as error:
        raise UndecodableError(f"The {picture_format} header cannot be read.") from error

    def decode() -> Image.Image:
        image.load()
        if picture_format == "PNG":
            _check_rows(image, data)
            _scale_transparent_key(image, data[_BIT_DEPTH_OFFSET])
        turn = _turn(image)
        return image if turn is None else image.transpose(turn)

    return _Undecoded(image.size, decode)


def _check_rows(image: Image.Image, data: bytes) -> None:
    """Refuses a PNG of too few rows; Pillow leaves those that are missing black."""
    last: Any = image.getpixel((image.width - 1, image.height - 1))
    black = not (any(last) if isinstance(last, tuple) else last)
    if (black or data[_INTERLACE_OFFSET]) and lacks_rows(data):
        raise EOFError("rows are missing")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes the picture upright, if it is not."""
    if len(image.info.get("exif", b"")) > _MOST_EXIF_BYTES:
        return None
    try:
        return _UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        # What cannot be read asks for nothing, and the pixels are sound.
        return None


def _scale_transparent_key(image: Image.Image, bit_depth: int) -> None:
    """Brings the transparent colour to 8 bits, as Pillow does with the samples alone."""
    key = image.info.get("transparency")
    if image.mode == "L" and isinstance(key, int) and bit_depth < 8:
        image.info["transparency"] = key * 255 // ((1 << bit_depth) - 1)
    elif image.mode == "RGB" and isinstance(key, tuple) and bit_depth == 16:
        image.info["transparency"] = tuple(sample >> 8 for sample in key)
