"""The picture formats that the service reads. Each is declared here.

Uploads, the command line, the page and the training data take names, media types and suffixes from
`FORMATS`. To add a format, write a module with a `check` function and add a `Format`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from service.ocr.formats import bmp, gif, jpeg, png, webp

Check = Callable[[bytes], tuple[bytes, float]]
Load = Callable[[Image.Image, bytes], Image.Image]


def _load(image: Image.Image, data: bytes) -> Image.Image:
    image.load()
    return image


@dataclass(frozen=True, slots=True)
class Format:
    """A picture format.

    Args:
        name: Pillow's name for it.
        media_types: the media types that senders use; the registered type comes first.
        suffixes: suffixes of file names, in lower case; the usual suffix comes first.
        signature: matches the first bytes of a file in this format.
        check: inspects a file before it is decoded. Returns the data to decode, and the pixel
            cost: the CPU time and memory that a pixel takes, relative to a pixel of a gray
            baseline JPEG (`make bench-formats`). A picture may have `max_pixels / pixel cost`
            pixels. Raises UndecodableError for a file that is broken or would take very long.
        load: decodes the image that Pillow opened from the data. May raise any exception for a
            file that is broken.
    """

    name: str
    media_types: tuple[str, ...]
    suffixes: tuple[str, ...]
    signature: re.Pattern[bytes]
    check: Check
    load: Load = _load


FORMATS = (
    Format(
        "PNG",
        ("image/png", "image/apng", "image/x-png"),
        (".png", ".apng"),
        re.compile(re.escape(png.SIGNATURE)),
        png.check,
        png.load,
    ),
    Format(
        "JPEG",
        ("image/jpeg", "image/jpg", "image/pjpeg"),
        (".jpg", ".jpeg", ".jpe", ".jfif"),
        re.compile(rb"\xff\xd8\xff"),
        jpeg.check,
    ),
    Format(
        "WEBP",
        ("image/webp",),
        (".webp",),
        re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
        webp.check,
    ),
    Format(
        "BMP",
        ("image/bmp", "image/x-ms-bmp", "image/x-bmp"),
        (".bmp", ".dib"),
        re.compile(rb"BM"),
        bmp.check,
        bmp.load,
    ),
    Format("GIF", ("image/gif",), (".gif",), re.compile(rb"GIF8[79]a"), gif.check),
)

MEDIA_TYPES = tuple(media_type for known in FORMATS for media_type in known.media_types)
SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)


def sniff(data: bytes) -> Format | None:
    """The format that the first bytes claim, or None."""
    for known in FORMATS:
        if known.signature.match(data):
            return known
    return None
