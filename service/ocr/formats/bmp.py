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
"""Offset of the pixels, bytes of the header after the 14-byte file header, bits per pixel, and
number of palette colours; 0 colours means as many as the bits can distinguish."""

_PIXELS, _COLOURS = slice(10, 14), slice(46, 50)
_FILE_HEADER_BYTES = 14
_INFO_HEADER_BYTES = 40
_MAX_PALETTE_BITS = 8
_COLOUR_BYTES = 4


def check(data: bytes) -> tuple[bytes, float]:
    """See `service.ocr.formats.Format.check`.

    Raises:
        UndecodableError: the BMP is run-length encoded, or has too many colours.
    """
    if data[_COMPRESSION] in _RUN_LENGTH_ENCODINGS:
        raise UndecodableError("The BMP is run-length encoded; save it uncompressed, or as a PNG.")
    return _with_whole_palette(data), 1


def _with_whole_palette(data: bytes) -> bytes:
    """Fills the palette up to as many colours as the bits of a pixel can distinguish.

    Pillow takes a palette of black and white alone for pixels of one bit, whatever their bits are.
    It reads each colour in Python, however many the header claims.
    """
    if len(data) < _HEADER.size:
        return data
    pixels, header_bytes, bits, colours = _HEADER.unpack_from(data)
    if header_bytes < _INFO_HEADER_BYTES or bits > _MAX_PALETTE_BITS or not colours:
        return data
    if colours > 1 << _MAX_PALETTE_BITS:
        raise UndecodableError(f"The BMP has {colours} colours, more than a pixel can distinguish.")
    palette = _FILE_HEADER_BYTES + header_bytes
    end = palette + _COLOUR_BYTES * colours
    added = bytes(_COLOUR_BYTES * max(0, (1 << bits) - colours))
    if end <= pixels <= len(data):
        pixels += len(added)
    elif pixels != palette:  # some writers give this offset; Pillow then reads after the palette
        return data
    whole = bytearray(data[:end] + added + data[end:])
    whole[_PIXELS] = pixels.to_bytes(4, "little")
    whole[_COLOURS] = max(colours, 1 << bits).to_bytes(4, "little")
    return bytes(whole)


def load(image: Image.Image, data: bytes) -> Image.Image:
    """Decodes a picture, and makes it opaque if its alpha channel is all zeros.

    Many programs leave the fourth byte of every pixel at zero. Other programs, browsers included,
    then ignore the alpha channel.
    """
    image.load()
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        image.putalpha(255)
    return image
