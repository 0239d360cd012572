"""Keeps only the chunks of a PNG that define the picture.

A PNG of a few kilobytes can hold hundreds of compressed profiles and texts, which a decoder
inflates one by one although none of them changes what the picture shows. Names and layout follow
the W3C's Portable Network Graphics specification, third edition.
"""

import math
import secrets
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from service.ocr.exceptions import UndecodableError

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_NEEDED = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"))
"""The pixels, their transparency and their orientation."""

_ANIMATION = frozenset((b"acTL", b"fcTL", b"fdAT"))

_MAX_CHUNKS = 1024
"""Encoders put 8 kB and more into an IDAT. Each chunk costs time, however small: a picture of 4096
chunks takes as long as four others."""

_MAX_OTHER_CHUNKS = 64
"""Chunks that hold no pixels."""

_CHUNK_HEADER = struct.Struct(">I4s")
_CRC_BYTES = 4
_FRAME_CONTROL = struct.Struct(">III")
"""The beginning of an fcTL: sequence number, width and height."""

_SEQUENCE_NUMBER_BYTES = 4
"""Bytes of the sequence number at the beginning of an fdAT."""

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel, by colour type."""

_GRAY_ALPHA = 4

_ONE_PASS = ((0, 0, 1, 1),)
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column and row of each pass of an interlaced picture, and the steps to the next ones."""

_INFLATE_BYTES = 1 << 16

_COMPRESSED_BYTE_COST, _FREE_BYTES = 10, 1 << 16
"""Cost of a byte of a file, relative to a pixel, and number of bytes that cost nothing. A megabyte
can hold 90,000 deflate blocks without a pixel, each with its own Huffman codes to build."""


class _Chunk(NamedTuple):
    """The type of a chunk, and its begin and end in the file."""

    kind: bytes
    begin: int
    end: int

    def body(self, data: bytes) -> bytes:
        return data[self.begin + _CHUNK_HEADER.size : self.end - _CRC_BYTES]


class _Header(NamedTuple):
    """The fields of an IHDR chunk."""

    width: int
    height: int
    depth: int
    colour_type: int
    compression: int
    filter: int
    interlace: int

    @property
    def bits(self) -> int:
        """Bits of a pixel."""
        return self.depth * _SAMPLES.get(self.colour_type, 4)


_HEADER = struct.Struct(">IIBBBBB")
_HEADER_AT = len(SIGNATURE) + _CHUNK_HEADER.size


def check(data: bytes) -> tuple[bytes, float]:
    """See `service.ocr.formats.Format.check`.

    The returned data have no metadata. If the default image of an APNG is not a frame, they hold
    its first frame instead, which browsers show; if that frame covers only a part of the canvas,
    they hold only that part.

    Raises:
        UndecodableError: the PNG is cut short, does not begin with an IHDR, has a second IHDR, or
            has too many chunks.
    """
    chunks = _chunks(data)
    kinds = [chunk.kind for chunk in chunks]
    frame = _first_frame_of_animation(data, chunks) if b"fcTL" in kinds else None
    if frame is not None:
        data = frame
    elif len(data) > chunks[-1].end or not _NEEDED.issuperset(kinds):
        data = _joined(data, chunks)
    return data, _pixel_cost(_header(data), b"tRNS" in kinds, len(data))


def load(image: Image.Image, data: bytes) -> Image.Image:
    """Decodes a picture, and scales its transparent colour, which Pillow leaves in the file's bit
    depth.

    Raises:
        EOFError: rows are missing, which Pillow would not report.
    """
    header = _header(data)
    # Missing rows keep the colour of the blank picture. It is random, so that no sender can have
    # the rows of every picture inflated twice.
    blank = Image.new(image.mode, image.size, tuple(secrets.token_bytes(len(image.getbands()))))
    last = image.width - 1, image.height - 1
    colour = blank.getpixel(last)
    image.im = blank.im
    image.load()
    if (header.interlace or image.getpixel(last) == colour) and _lacks_rows(data, header):
        raise EOFError("rows are missing")
    key = image.info.get("transparency")
    if image.mode == "L" and isinstance(key, int) and header.depth < 8:
        image.info["transparency"] = key * 255 // ((1 << header.depth) - 1)
    elif image.mode == "RGB" and isinstance(key, tuple) and header.depth == 16:
        image.info["transparency"] = tuple(sample >> 8 for sample in key)
    return image


def _chunks(data: bytes) -> list[_Chunk]:
    """The chunks from IHDR to IEND."""
    chunks: list[_Chunk] = []
    position = len(SIGNATURE)
    others = 0
    kind = b""
    while kind != b"IEND":
        if position + _CHUNK_HEADER.size + _CRC_BYTES > len(data):
            raise UndecodableError("The PNG is cut short.")
        length, kind = _CHUNK_HEADER.unpack_from(data, position)
        if (kind == b"IHDR") == bool(chunks) or (not chunks and length != _HEADER.size):
            raise UndecodableError("The PNG header cannot be read.")
        end = position + _CHUNK_HEADER.size + length + _CRC_BYTES
        chunks.append(_Chunk(kind, position, end))
        others += kind != b"IDAT" and kind not in _ANIMATION
        if len(chunks) > _MAX_CHUNKS or others > _MAX_OTHER_CHUNKS:
            raise UndecodableError(
                f"The PNG has too many chunks; at most {_MAX_OTHER_CHUNKS} without pixels are "
                "read. Save it without metadata."
            )
        position = end
    if position > len(data):
        raise UndecodableError("The PNG is cut short.")
    return chunks


def _joined(data: bytes, chunks: Sequence[_Chunk]) -> bytes:
    """A PNG of the needed chunks; adjacent chunks are copied together."""
    pieces, begin = [SIGNATURE], len(SIGNATURE)
    for chunk in chunks:
        if chunk.kind not in _NEEDED:
            pieces.append(data[begin : chunk.begin])
            begin = chunk.end
    return b"".join([*pieces, data[begin : chunks[-1].end]])


def _first_frame_of_animation(data: bytes, chunks: Sequence[_Chunk]) -> bytes | None:
    """A PNG of the first frame; None if that is the default image, or there is no animation."""
    kinds = [chunk.kind for chunk in chunks]
    if b"fcTL" not in kinds or b"IDAT" not in kinds:
        return None
    control = kinds.index(b"fcTL")
    if control < kinds.index(b"IDAT") or b"acTL" not in kinds[: kinds.index(b"IDAT")]:
        return None
    body = chunks[control].body(data)
    if len(body) < _FRAME_CONTROL.size:
        raise UndecodableError("The PNG has a broken frame.")
    _, width, height = _FRAME_CONTROL.unpack_from(body)
    pixels = []
    for chunk in chunks[control + 1 :]:
        if chunk.kind == b"fcTL":
            break
        if chunk.kind == b"fdAT":
            pixels.append(chunk.body(data)[_SEQUENCE_NUMBER_BYTES:])
    header = _header(data)._replace(width=width, height=height)
    others = [c for c in chunks if c.kind in _NEEDED and c.kind not in (b"IHDR", b"IDAT", b"IEND")]
    return b"".join(
        [
            SIGNATURE,
            _encoded(b"IHDR", _HEADER.pack(*header)),
            *(data[chunk.begin : chunk.end] for chunk in others),
            _encoded(b"IDAT", b"".join(pixels)),
            _encoded(b"IEND", b""),
        ]
    )


def _encoded(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body)
    return _CHUNK_HEADER.pack(len(body), kind) + body + checksum.to_bytes(_CRC_BYTES)


def _header(data: bytes) -> _Header:
    return _Header(*_HEADER.unpack_from(data, _HEADER_AT))


def _pixel_cost(header: _Header, transparent: bool, file_bytes: int) -> float:
    """The cost by the bytes of a pixel, which are inflated and filtered, and those of a large file.

    An interlaced picture costs twice as much, for its passes and the check for missing rows.
    """
    cost = 1 + header.bits / 8
    if transparent or header.colour_type == _GRAY_ALPHA:
        cost += 1.5  # converted to RGBA
    large = _COMPRESSED_BYTE_COST * max(0, file_bytes - _FREE_BYTES)
    cost += large / max(1, header.width * header.height)
    return 2 * cost if header.interlace else cost


def _lacks_rows(data: bytes, header: _Header) -> bool:
    """Whether the compressed rows end before the picture does."""
    missing = _row_bytes(header)
    inflater = zlib.decompressobj()
    for chunk in _chunks(data):
        compressed = chunk.body(data) if chunk.kind == b"IDAT" else b""
        # At its end, the inflater gives the data behind the stream as unconsumed again and again.
        while compressed and missing > 0 and not inflater.eof:
            missing -= len(inflater.decompress(compressed, _INFLATE_BYTES))
            compressed = inflater.unconsumed_tail
    return missing > 0 and missing > len(inflater.flush())


def _row_bytes(header: _Header) -> int:
    """Uncompressed size of all rows in bytes; each row begins with a byte for its filter."""
    total = 0
    for left, top, right, down in _ADAM7 if header.interlace else _ONE_PASS:
        columns = math.ceil((header.width - left) / right)
        rows = math.ceil((header.height - top) / down)
        if columns > 0:
            total += rows * (1 + math.ceil(columns * header.bits / 8))
    return total
