"""States what a WebP costs, by its header and the sizes of its lossless parts.

Names and layout follow RFC 9649.
"""

import re
from itertools import islice

from service.ocr.exceptions import UndecodableError

_PIXEL_COST = 8
"""The decoder takes long, and holds the canvas several times."""

_LOSSLESS = re.compile(rb"(?:VP8L|ALPH)(.{4})", re.DOTALL)
"""A chunk that holds a picture, or its transparency, in the lossless coding; and its size."""

_MOST_PARTS = 1024
"""Each frame of an animation has one or two. A megabyte can hold 130,000, without a picture."""

_COMPRESSED_BYTE_COST, _FREE_BYTES = 32, 1 << 14
"""What a byte of such a chunk costs, like a pixel, and the bytes that cost nothing. Each two and a
half can hold a group of five prefix codes, which takes 2 µs, without a pixel."""

_TABLE_BYTE_COST, _TABLE_PIXEL_COST = 180, 48
"""What its tables take of memory: a group in use has 5.7 kB of them, and takes at least four bytes
of the chunk and a tile of four by four pixels."""

_FIRST_CHUNK = slice(12, 16)
_EXTENDED_WIDTH, _EXTENDED_HEIGHT = slice(24, 27), slice(27, 30)
_LOSSLESS_SIZE = slice(21, 25)
_SIDE_BITS = 14


def check(data: bytes) -> tuple[bytes, float]:
    """See `service.ocr.formats.Format.check`.

    Raises:
        UndecodableError: too many lossless parts.
    """
    parts = islice(_LOSSLESS.finditer(data), _MOST_PARTS + 1)
    sizes = [int.from_bytes(found[1], "little") for found in parts]
    if len(sizes) > _MOST_PARTS:
        raise UndecodableError(f"The WebP has over {_MOST_PARTS} lossless parts.")
    pixels = _pixels(data)
    if not sizes or not pixels:
        return data, _PIXEL_COST
    size = min(max(sizes), len(data))  # of an animation, one frame is decoded
    tables = min(_TABLE_BYTE_COST * size, _TABLE_PIXEL_COST * pixels)
    codes = _COMPRESSED_BYTE_COST * max(0, size - _FREE_BYTES)
    return data, _PIXEL_COST + (tables + codes) / pixels


def _pixels(data: bytes) -> int:
    """Width × height where the header allows a lossless part; or else 0."""
    if data[_FIRST_CHUNK] == b"VP8X":
        sides = (data[_EXTENDED_WIDTH], data[_EXTENDED_HEIGHT])
        width, height = (1 + int.from_bytes(side, "little") for side in sides)
    elif data[_FIRST_CHUNK] == b"VP8L":
        bits, most = int.from_bytes(data[_LOSSLESS_SIZE], "little"), (1 << _SIDE_BITS) - 1
        width, height = 1 + (bits & most), 1 + (bits >> _SIDE_BITS & most)
    else:
        return 0
    return width * height
