"""Walks over the chunks of a PNG, so that a decoder sees only those that make the picture.

A PNG of a few kilobytes can hold hundreds of compressed profiles and texts, which a decoder
inflates one by one; none of them changes what the picture shows. Names and layout follow the
W3C's Portable Network Graphics specification, third edition.
"""

import struct

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
_HEADER_BYTES = 13
_SIZE = struct.Struct(">II")
"""Width and height, with which an IHDR begins."""

_QUICK_BYTES = 1 << 15
_QUICK_PIXELS = 1 << 15
_QUICK_IDATS = 16


def is_quick(data: bytes) -> bool:
    """Whether it can only be a PNG that is decoded, or refused, within a few milliseconds.

    It says so itself; what says otherwise further on, `without_metadata` refuses.
    """
    begin = len(SIGNATURE) + _HEAD.size
    if not begin + _SIZE.size <= len(data) <= _QUICK_BYTES or not data.startswith(SIGNATURE):
        return False
    width, height = _SIZE.unpack_from(data, begin)
    plain = b"eXIf" not in data and data.count(b"IDAT") <= _QUICK_IDATS
    return bool(plain and width * height <= _QUICK_PIXELS)


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
        if (kind == b"IHDR") == bool(chunks) or (not chunks and length != _HEADER_BYTES):
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
