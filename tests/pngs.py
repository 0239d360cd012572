"""PNGs assembled chunk by chunk.

Names and layout follow the W3C's Portable Network Graphics specification, third edition.
"""

import struct
import zlib

from service.ocr.formats.png import SIGNATURE
from tests.stripes import picture


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))


def header(width: int, height: int, depth: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    """An IHDR chunk."""
    body = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return chunk(b"IHDR", body)


def png(width: int, height: int, depth: int, colour: int, raw: bytes, *extra: bytes) -> bytes:
    """A PNG with these filtered rows (`raw`), and with extra chunks before the pixels."""
    pixels = chunk(b"IDAT", zlib.compress(raw))
    first = header(width, height, depth, colour)
    return SIGNATURE + first + b"".join(extra) + pixels + chunk(b"IEND")


def behind_header(*chunks: bytes, png: bytes = picture("ab")) -> bytes:
    """The picture with extra chunks between IHDR and IDAT."""
    first = len(SIGNATURE) + 25
    return png[:first] + b"".join(chunks) + png[first:]
