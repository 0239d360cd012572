"""From the bytes of a picture to the model's input tensor.

This function is the contract between training and serving: both call it, so what the model
was trained on and what it is asked to read cannot drift apart. It knows neither the model
nor where the bytes came from.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from service.ocr.exceptions import PictureTooLargeError, UndecodableError, UnsupportedFormatError
from service.ocr.png import SIGNATURE, without_metadata

FloatArray = NDArray[np.float32]

DEFAULT_MAX_PIXELS = 4_000_000
"""Width × height above which a picture is refused unread."""

MAX_SIDE = 16_384
"""Width and height above which a picture is refused unread, few as its pixels may be."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_EXIF_ORIENTATION = 0x0112

_MOST_SCANS = 64
"""A progressive JPEG has about ten scans; each costs time for all pixels, and few bytes."""

_BIT_DEPTH_OFFSET = 24
"""Where a PNG states how many bits a sample has (W3C PNG, third edition, section 11.2.1)."""
_WHITE = np.float32(1)
_FULL = np.float32(255)


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
    return fitted(decode_gray(data, max_pixels), width, height)


def fitted(gray: FloatArray, width: int, height: int) -> FloatArray:
    """Stretches a decoded picture `(height, width)` to the tensor `(width, height, 1)`."""
    if gray.shape != (height, width):
        resized = Image.fromarray(gray).resize((width, height), Image.Resampling.BILINEAR)
        gray = np.asarray(resized)
    return np.ascontiguousarray(gray.T)[:, :, np.newaxis]


def decode_gray(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> FloatArray:
    """Decode one picture at its own size: float32 `(height, width)`, 0 black to 1 white.

    Arguments and errors are those of `preprocess`.
    """
    if not data:
        raise UndecodableError("The picture is empty: 0 bytes were sent.")
    picture_format = sniff_format(data)
    if picture_format is None:
        raise UnsupportedFormatError(
            f"Not a picture in a format that is read here; send one of {', '.join(FORMATS)}."
        )
    if picture_format == "JPEG" and data.count(b"\xff\xda") > _MOST_SCANS:
        raise UndecodableError(f"The JPEG has over {_MOST_SCANS} scans; send it as a plain one.")
    if picture_format == "PNG":
        data = without_metadata(data)
    try:
        # Pillow answers a broken file with half a dozen unrelated exception types.
        image: Image.Image = Image.open(io.BytesIO(data), formats=[picture_format])
    except Image.DecompressionBombError as error:
        raise PictureTooLargeError(
            f"The picture is too large; at most {max_pixels} pixels are read."
        ) from error
    except Exception as error:
        raise UndecodableError(f"The {picture_format} header cannot be read.") from error
    if image.width * image.height > max_pixels or max(image.size) > MAX_SIDE:
        raise PictureTooLargeError(
            f"The picture has {image.width}×{image.height} pixels; "
            f"at most {max_pixels} in all, and {MAX_SIDE} a side, are read."
        )
    if image.width == 0 or image.height == 0:
        raise UndecodableError(f"The picture has {image.width}×{image.height} pixels: none.")
    try:
        image.load()
        if picture_format == "PNG":
            _scale_transparent_key(image, data[_BIT_DEPTH_OFFSET])
        if _is_turned(image):
            image = ImageOps.exif_transpose(image)
        return _to_gray(image)
    except Exception as error:
        raise UndecodableError(f"The {picture_format} data are broken or cut short.") from error


def _is_turned(image: Image.Image) -> bool:
    try:
        return bool(image.getexif().get(_EXIF_ORIENTATION, 1) != 1)
    except Exception:
        # What cannot be read asks for nothing, and the pixels are sound.
        return False


def _scale_transparent_key(image: Image.Image, bit_depth: int) -> None:
    """Brings the transparent colour to 8 bits, as Pillow does with the samples alone."""
    key = image.info.get("transparency")
    if image.mode == "L" and isinstance(key, int) and bit_depth < 8:
        image.info["transparency"] = key * 255 // ((1 << bit_depth) - 1)
    elif image.mode == "RGB" and isinstance(key, tuple) and bit_depth == 16:
        image.info["transparency"] = tuple(sample >> 8 for sample in key)


def _to_gray(image: Image.Image) -> FloatArray:
    """A decoded picture of any mode as float32 `(height, width)`, 0 to 1, on white."""
    if image.mode.startswith("I"):
        return _sixteen_bit_to_gray(image)
    if image.has_transparency_data and not _is_opaque(image):
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


def _sixteen_bit_to_gray(image: Image.Image) -> FloatArray:
    """16-bit gray, which `Image.convert("L")` would clip at 255, scaled to 0–1."""
    samples = np.asarray(image, np.float32)
    gray = samples / np.float32(65535)
    key = image.info.get("transparency")
    return gray if key is None else np.where(samples == key, _WHITE, gray)
