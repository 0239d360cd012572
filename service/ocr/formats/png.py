"""Walks over the chunks of a PNG, so that a decoder sees only those that make the picture.

A PNG of a few kilobytes can hold hundreds of compressed profiles and texts, which a decoder
inflates one by one; none of them changes what the picture shows. Names and layout follow the
W3C's Portable Network Graphics specification, third edition.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from service.ocr.exceptions import UndecodableError

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_NEEDED = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"))
"""What the pixels, their transparency and their orientation are made from."""

_MOST_CHUNKS = 4096
"""Encoders write 8 kB and more into an IDAT; each chunk costs time, however small."""

_MOST_OTHERS = 64
"""Chunks besides IDAT."""

_HEAD = struct.Struct(">I4s")
_CRC_BYTES = 4
_HEADER = struct.Struct(">IIBB3s")
"""Of an IHDR: width, height, bits of a sample, colour type, and three methods."""

_HEADER_AT = len(SIGNATURE) + _HEAD.size
_HEADER_END = _HEADER_AT + _HEADER.size
_BEHIND_HEADER = _HEADER_END + _CRC_BYTES
_MODES = {(8, 0): "L", (8, 2): "RGB", (8, 4): "LA", (8, 6): "RGBA"}
"""Pillow's names for the bits and colour types that it has modes of."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel, by colour type."""

_ONE_PASS = ((0, 0, 1, 1),)
_SEVEN_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""The first column and row of each pass, and the steps from there (Adam7)."""

_BUFFER_BYTES = 1 << 16
_SMALL_BYTES = 1 << 15
_QUICK_PIXELS = 1 << 14
_QUICK_SIDE = 1 << 12
"""It takes long to stretch a line, however few its pixels are."""

_QUICK_BITS = 8
"""Of a sample: sixteen take up to twice the time, as seven passes do."""

_QUICK_IDATS = 16


class Pixels(NamedTuple):
    """What a plain PNG holds: its mode in Pillow's terms, its size, and its compressed rows."""

    mode: str
    size: tuple[int, int]
    stream: bytes


def is_quick(data: bytes) -> bool:
    """Whether it can only be a PNG that is decoded, or refused, within a few milliseconds.

    It says so itself; what says otherwise further on, `without_metadata` refuses.
    """
    if not _HEADER_END <= len(data) <= _SMALL_BYTES or not data.startswith(SIGNATURE):
        return False
    width, height, bits, _, methods = _HEADER.unpack_from(data, _HEADER_AT)
    if width * height > _QUICK_PIXELS or max(width, height) > _QUICK_SIDE:
        return False
    if bits > _QUICK_BITS or any(methods):
        return False
    return b"eXIf" not in data and data.count(b"IDAT") <= _QUICK_IDATS


def without_metadata(data: bytes) -> bytes:
    """The same picture without the chunks that it can be decoded without.

    Args:
        data: begins with `SIGNATURE`.

    Returns:
        A PNG that ends with its IEND; `data` itself where nothing had to be left out.

    Raises:
        UndecodableError: cut short, without an IHDR at its beginning and nowhere else, or of too
            many chunks.
    """
    kept = []
    position = begin = len(SIGNATURE)
    chunks = others = 0
    kind = b""
    while kind != b"IEND":
        if position + _HEAD.size + _CRC_BYTES > len(data):
            raise UndecodableError("The PNG is cut short.")
        length, kind = _HEAD.unpack_from(data, position)
        if (kind == b"IHDR") == bool(chunks) or (not chunks and length != _HEADER.size):
            raise UndecodableError("The PNG header cannot be read.")
        chunks += 1
        others += kind != b"IDAT"
        if chunks > _MOST_CHUNKS or others > _MOST_OTHERS:
            raise UndecodableError(
                f"The PNG has too many chunks; at most {_MOST_OTHERS} besides those of its pixels "
                "are read. Save it without metadata."
            )
        end = position + _HEAD.size + length + _CRC_BYTES
        if kind not in _NEEDED:
            kept.append(data[begin:position])
            begin = end
        position = end
    if position > len(data):
        raise UndecodableError("The PNG is cut short.")
    if not kept and position == len(data):
        return data
    return b"".join([SIGNATURE, *kept, data[begin:position]])


def plain_pixels(data: bytes) -> Pixels | None:
    """What a small PNG holds, if no other chunk says more about it, as of most pictures.

    To decode this costs half of what it does to have Pillow find it.

    Args:
        data: from `without_metadata`.

    Returns:
        None for one that is large or broken, or has a palette, a transparent colour, an
        orientation, several passes, or other than eight bits a sample.
    """
    if len(data) > _SMALL_BYTES:
        return None
    width, height, bits, colour, methods = _HEADER.unpack_from(data, _HEADER_AT)
    mode = _MODES.get((bits, colour))
    checksum = zlib.crc32(data[_HEADER_AT:_HEADER_END], zlib.crc32(b"IHDR"))
    sound = checksum == int.from_bytes(data[_HEADER_END:_BEHIND_HEADER])
    if mode is None or any(methods) or not sound:
        return None
    chunks = list(_chunks(data))
    if any(kind != b"IDAT" for kind, _ in chunks):
        return None
    return Pixels(mode, (width, height), b"".join([body for _, body in chunks]))


def lacks_rows(data: bytes) -> bool:
    """Whether the compressed rows end before the picture does; a decoder may leave those black.

    Args:
        data: from `without_metadata`, of a picture that has been decoded.
    """
    missing = _row_bytes(data)
    inflater = zlib.decompressobj()
    for kind, body in _chunks(data):
        compressed = body if kind == b"IDAT" else b""
        while compressed and missing > 0:
            rows = inflater.decompress(compressed, _BUFFER_BYTES)
            compressed = inflater.unconsumed_tail
            missing -= len(rows)
    return missing > 0 and missing > len(inflater.flush())


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of every chunk between IHDR and IEND.

    Args:
        data: from `without_metadata`.
    """
    position = _BEHIND_HEADER
    while True:
        length, kind = _HEAD.unpack_from(data, position)
        begin = position + _HEAD.size
        if kind == b"IEND":
            return
        yield kind, data[begin : begin + length]
        position = begin + length + _CRC_BYTES


def _row_bytes(data: bytes) -> int:
    """What all rows of a picture take uncompressed, each with the byte that names its filter."""
    width, height, bits, colour, methods = _HEADER.unpack_from(data, _HEADER_AT)
    total = 0
    for left, top, right, down in _SEVEN_PASSES if methods[-1] else _ONE_PASS:
        columns = math.ceil((width - left) / right)
        rows = math.ceil((height - top) / down)
        if columns > 0:
            total += rows * (1 + math.ceil(columns * bits * _CHANNELS[colour] / 8))
    return total
