"""Checks the header of a BMP, and completes its palette.

Names and layout follow Microsoft's BITMAPINFOHEADER and BITMAPV4HEADER.
"""

import struct

from PIL import Image

from service.ocr.exceptions import UndecodableError

_COMPRESSION = slice(30, 34)
_RUN_LENGTH_ENCODINGS = (b"\1\0\0\0", b"\2\0\0\0")
"""BI_RLE8 and BI_RLE4, which Pillow decodes in Python."""

_HEADER = struct.Struct("<10xII10xH16xI")
"""Where the pixels begin, the bytes of the header behind the first 14, the bits of a pixel, and the
colours of the palette; 0 colours: as many as the bits can tell apart."""

_PIXELS, _COLOURS = slice(10, 14), slice(46, 50)
_FILE_HEADER_BYTES = 14
_INFO_HEADER_BYTES = 40
_MAX_PALETTE_BITS = 8
_COLOUR_BYTES = 4


def check(data: bytes) -> tuple[bytes, float]:
    """See `service.ocr.formats.Format.check`.

    Raises:
        UndecodableError: run-length encoded, or with too many colours.
    """
    if data[_COMPRESSION] in _RUN_LENGTH_ENCODINGS:
        raise UndecodableError("The BMP is run-length encoded; save it uncompressed, or as a PNG.")
    return _with_whole_palette(data), 1


def _with_whole_palette(data: bytes) -> bytes:
    """The data with at least as many colours as the bits of a pixel can tell apart.

    Of fewer, Pillow takes two that are black and white for pixels of one bit, whatever their bits
    are. It looks at each in Python, however many are claimed.
    """
    if len(data) < _HEADER.size:
        return data
    pixels, header_bytes, bits, colours = _HEADER.unpack_from(data)
    if header_bytes < _INFO_HEADER_BYTES or bits > _MAX_PALETTE_BITS or not colours:
        return data
    if colours > 1 << _MAX_PALETTE_BITS:
        raise UndecodableError(f"The BMP has {colours} colours, which no pixel can tell apart.")
    palette = _FILE_HEADER_BYTES + header_bytes
    end = palette + _COLOUR_BYTES * colours
    added = bytes(_COLOUR_BYTES * max(0, (1 << bits) - colours))
    if end <= pixels <= len(data):
        pixels += len(added)
    elif pixels != palette:  # some writers give this, and Pillow looks behind the palette
        return data
    whole = bytearray(data[:end] + added + data[end:])
    whole[_PIXELS] = pixels.to_bytes(4, "little")
    whole[_COLOURS] = max(colours, 1 << bits).to_bytes(4, "little")
    return bytes(whole)


def finish(image: Image.Image, data: bytes) -> Image.Image:
    """Makes a picture opaque that has an alpha channel of zeros only.

    Many programs leave the fourth byte of a pixel at zero, and others, browsers included, then
    ignore it.
    """
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        image.putalpha(255)
    return image
