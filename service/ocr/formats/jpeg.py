"""Walks over the segments of a JPEG and refuses files that take very long to decode.

A megabyte can hold a quarter of a million segments, and decoders look at each segment and at the
bytes between segments. Names and layout follow ITU-T T.81, annex B.
"""

import re
from collections.abc import Iterator, Sequence

from service.ocr.exceptions import UndecodableError
from service.ocr.formats import exif

_SOI_BYTES = 2
_HEAD_BYTES = 4
"""Bytes of a segment's marker and length."""

_COMPONENTS_AT = 9
"""Offset of the number of components in a frame header, from its marker on."""

_SOF2 = 0xC2
_READ_FRAMES = frozenset((0xC0, 0xC1, _SOF2))
"""Baseline, extended and progressive, all with Huffman coding."""

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_MARKER_PREFIX = 0xFF
"""The first byte of every marker."""

_EOI = 0xD9
_SOS = 0xDA
_APP0, _APP1, _APP14 = 0xE0, 0xE1, 0xEE
_METADATA = frozenset((*range(0xE0, 0xF0), 0xFE)) - {_APP0, _APP14}
"""Application segments and comments, except segments that tell how colours are stored."""

_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The marker that ends a scan. Within a scan, 255 may precede a zero or a restart code."""

_STANDALONE = frozenset((*range(0xC0), 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)))
"""Markers that are not followed by a length."""

_MAX_SCANS = 64
"""A progressive JPEG has about ten scans."""

_MAX_SEGMENTS = 256
_MAX_TABLE_BYTES = 1 << 16
"""Bytes of all segments except scans and metadata. Encoders write some hundreds for each scan;
Pillow parses each table in Python, however many there are."""

_MAX_FILL_BYTES = 4096
"""Bytes between segments before the first scan; encoders write a few at most."""


def check(data: bytes) -> tuple[bytes, float]:
    """See `service.ocr.formats.Format.check`.

    Of the metadata, only the orientation in the first EXIF segment is kept, because Pillow would
    parse all of them.

    Raises:
        UndecodableError: the JPEG has arithmetic coding or another rare kind, too many scans or
            other segments, tables that are too large, or no scan.
    """
    metadata = []
    metadata_begin = None
    orientation = 0
    scans = others = components = table_bytes = 0
    progressive = False
    for marker, begin, end in _segments(data):
        if metadata_begin is not None:
            metadata.append((metadata_begin, begin))
            metadata_begin = None
        if marker == _EOI and scans:
            break
        scans += marker == _SOS
        others += marker != _SOS
        _check_counts(scans, others)
        if marker in _START_OF_FRAME:
            if marker not in _READ_FRAMES:
                raise UndecodableError(
                    "The JPEG is lossless, hierarchical or arithmetically coded; send it as a "
                    "baseline or progressive one."
                )
            progressive = progressive or marker == _SOF2
            at = begin + _COMPONENTS_AT
            components = max([components, *data[at : at + 1]])
        if marker not in _METADATA:
            table_bytes += (end - begin) * (marker != _SOS)
        else:
            metadata_begin = begin
            exif_begin = begin + _HEAD_BYTES
            if not orientation and data.startswith(exif.SIGNATURE, exif_begin):
                orientation = exif.orientation(data[exif_begin:end])
    if table_bytes > _MAX_TABLE_BYTES:
        raise UndecodableError(f"The JPEG has over {_MAX_TABLE_BYTES} bytes of tables.")
    if not scans:
        raise UndecodableError(
            "The JPEG has no scan, or too many bytes outside of segments before its first scan."
        )
    data = _without(data, metadata)
    if orientation > 1:
        body = exif.encoded(orientation)
        segment = bytes((_MARKER_PREFIX, _APP1)) + (2 + len(body)).to_bytes(2) + body
        data = data[:_SOI_BYTES] + segment + data[_SOI_BYTES:]
    return data, _pixel_cost(scans, components, progressive)


def _pixel_cost(scans: int, components: int, progressive: bool) -> float:
    """The cost by components and scans. If there are several scans, each visits all pixels, and
    the decoder keeps all coefficients.

    A gray baseline JPEG is the cheapest kind of picture.
    """
    cost = 2 + scans / 8 if progressive or scans > 1 else 1
    return cost * (1 if components == 1 else 1.25 if components <= 3 else 2.5)


def _check_counts(scans: int, others: int) -> None:
    if scans > _MAX_SCANS:
        raise UndecodableError(f"The JPEG has over {_MAX_SCANS} scans; send it as a baseline one.")
    if others > _MAX_SEGMENTS:
        raise UndecodableError(
            f"The JPEG has over {_MAX_SEGMENTS} segments besides its scans; "
            "save it without metadata."
        )


def _without(data: bytes, left_out: Sequence[tuple[int, int]]) -> bytes:
    """The data without these parts, each given by its begin and end."""
    kept, position = [], 0
    for begin, end in left_out:
        kept.append(data[position:begin])
        position = end
    return b"".join([*kept, data[position:]])


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of each segment, as decoders find them."""
    pattern, position, searchable = _MARKER, _SOI_BYTES, _MAX_FILL_BYTES
    while found := pattern.search(data, position, position + searchable):
        begin, end = found.span()
        marker = data[end - 1]
        searchable -= begin - position
        position = end
        if marker not in _STANDALONE:
            position += max(2, int.from_bytes(data[end : end + 2]))
        if marker == _SOS:
            pattern, searchable = _MARKER_AFTER_SCAN, len(data)
        yield marker, begin, position
