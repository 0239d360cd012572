"""Checks the header of a BMP.

Names and layout follow Microsoft's BITMAPINFOHEADER and BITMAPV4HEADER.
"""

from PIL import Image

from service.ocr.exceptions import UndecodableError

_COMPRESSION = slice(30, 34)
_RUN_LENGTH_ENCODINGS = (b"\1\0\0\0", b"\2\0\0\0")
"""BI_RLE8 and BI_RLE4, which Pillow decodes in Python."""


def check(data: bytes) -> tuple[bytes, float]:
    """See `service.ocr.formats.Format.check`."""
    if data[_COMPRESSION] in _RUN_LENGTH_ENCODINGS:
        raise UndecodableError("The BMP is run-length encoded; save it uncompressed, or as a PNG.")
    return data, 1


def finish(image: Image.Image, data: bytes) -> Image.Image:
    """Makes a picture opaque that has an alpha channel of zeros only.

    Many programs leave the fourth byte of a pixel at zero, and others, browsers included, then
    ignore it.
    """
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        image.putalpha(255)
    return image
