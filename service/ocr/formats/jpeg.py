"""Walks over the segments of a JPEG, of which a megabyte may hold a quarter of a million.

Decoders look at each of them, and at all that is between them, byte by byte. Names and layout
follow ITU-T T.81, annex B.
"""

import re
from collections.abc import Iterator, Sequence

from service.ocr.exceptions import UndecodableError

_SOI_BYTES = 2
_HEAD_BYTES = 4
"""Of a segment: its marker and its length."""

_EOI = 0xD9
_SOS = 0xDA
_APP1 = 0xE1
_EXIF = b"Exif\0\0"

_MARKER = re.compile(rb"\xff[^\x00\xff]")
_BEHIND_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A zero or a restart behind the 255 is part of the scan."""

_BARE = frozenset((*range(0xC0), 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)))
"""Markers behind which decoders expect no length."""

_MOST_SCANS = 64
"""A progressive JPEG has about ten scans; each costs time for all pixels, and few bytes."""

_MOST_SEGMENTS = 256
_MOST_FILLING = 4096
"""Bytes between the segments before the first scan, where encoders write a few at most."""


def checked(data: bytes) -> bytes:
    """The same picture, with its first segment of Exif alone, as the format has it.

    Decoders put all of them together.

    Args:
        data: begins with an SOI.

    Raises:
        UndecodableError: of too many scans or other segments, or without any scan.
    """
    exif = []
    scans = others = 0
    for marker, begin, end in _segments(data):
        if marker == _EOI and scans:
            break
        scans += marker == _SOS
        others += marker != _SOS
        _check_counts(scans, others)
        if marker == _APP1 and data.startswith(_EXIF, begin + _HEAD_BYTES):
            exif.append((begin, end))
    if not scans:
        raise UndecodableError(
            "The JPEG has no scan, or too many bytes that belong to nothing before it."
        )
    return _without(data, exif[1:])


def _check_counts(scans: int, others: int) -> None:
    if scans > _MOST_SCANS:
        raise UndecodableError(f"The JPEG has over {_MOST_SCANS} scans; send it as a plain one.")
    if others > _MOST_SEGMENTS:
        raise UndecodableError(
            f"The JPEG has over {_MOST_SEGMENTS} segments besides its scans; "
            "save it without metadata."
        )


def _without(data: bytes, left_out: Sequence[tuple[int, int]]) -> bytes:
    """The data but for what is between some begins and ends."""
    kept, position = [], 0
    for begin, end in left_out:
        kept.append(data[position:begin])
        position = end
    return b"".join([*kept, data[position:]])


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of each, as decoders find them."""
    pattern, position, spare = _MARKER, _SOI_BYTES, _MOST_FILLING
    while found := pattern.search(data, position, position + spare):
        begin, end = found.span()
        marker = data[end - 1]
        spare -= begin - position
        position = end
        if marker not in _BARE:
            position += max(2, int.from_bytes(data[end : end + 2]))
        if marker == _SOS:
            pattern, spare = _BEHIND_SCAN, len(data)
        yield marker, begin, position
