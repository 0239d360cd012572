"""Computes the pixel cost of a WebP from its header and the sizes of its lossless parts.

Names and layout follow RFC 9649.
"""

import re
from itertools import islice

from service.ocr.exceptions import UndecodableError

_PIXEL_COST = 8
"""The decoder is slow, and holds the canvas in memory several times."""

_LOSSLESS = re.compile(rb"(?:VP8L|ALPH)(.{4})", re.DOTALL)
"""A chunk with a losslessly coded picture or alpha channel, and the size of the chunk."""

_MAX_PARTS = 1024
"""Each frame of an animation has one or two. A megabyte without a picture can hold 130,000."""

_COMPRESSED_BYTE_COST, _FREE_BYTES = 32, 1 << 14
"""Cost of a byte of a lossless part, relative to a pixel, and number of bytes that cost nothing.
Two and a half bytes can hold a group of five prefix codes, which takes 2 µs, without a pixel."""

_TABLE_BYTE_COST, _TABLE_PIXEL_COST = 180, 48
"""Memory cost of the code tables, by the bytes and by the pixels of a lossless part. A group in use
has 5.7 kB of tables, and takes at least four bytes of the part and a tile of 4×4 pixels."""

_FIRST_CHUNK = slice(12, 16)
_EXTENDED_WIDTH, _EXTENDED_HEIGHT = slice(24, 27), slice(27, 30)
_LOSSLESS_SIZE = slice(21, 25)
_SIDE_BITS = 14


def check(data: bytes) -> tuple[bytes, float]:
    """See `service.ocr.formats.Format.check`.

    Raises:
        UndecodableError: the WebP has too many lossless parts.
    """
    parts = islice(_LOSSLESS.finditer(data), _MAX_PARTS + 1)
    sizes = [int.from_bytes(found[1], "little") for found in parts]
    if len(sizes) > _MAX_PARTS:
        raise UndecodableError(f"The WebP has over {_MAX_PARTS} lossless parts.")
    pixels = _pixels(data)
    if not sizes or not pixels:
        return data, _PIXEL_COST
    size = min(max(sizes), len(data))  # only one frame of an animation is decoded
    tables = min(_TABLE_BYTE_COST * size, _TABLE_PIXEL_COST * pixels)
    codes = _COMPRESSED_BYTE_COST * max(0, size - _FREE_BYTES)
    return data, _PIXEL_COST + (tables + codes) / pixels


def _pixels(data: bytes) -> int:
    """Width × height if the header allows a lossless part, else 0."""
    if data[_FIRST_CHUNK] == b"VP8X":
        sides = (data[_EXTENDED_WIDTH], data[_EXTENDED_HEIGHT])
        width, height = (1 + int.from_bytes(side, "little") for side in sides)
    elif data[_FIRST_CHUNK] == b"VP8L":
        bits, most = int.from_bytes(data[_LOSSLESS_SIZE], "little"), (1 << _SIDE_BITS) - 1
        width, height = 1 + (bits & most), 1 + (bits >> _SIDE_BITS & most)
    else:
        return 0
    return width * height
