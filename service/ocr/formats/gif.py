"""Removes the blocks before a GIF's first frame that do not change the frame.

Names and layout follow CompuServe's Graphics Interchange Format, version 89a.
"""

from service.ocr.exceptions import UndecodableError

_SCREEN_BYTES = 13
_PACKED_AT = 10
"""Offset of the byte that tells whether a global colour table follows, and its size."""

_EXTENSION = ord("!")
_EXTENSION_HEADER_BYTES = 2
_IMAGE = ord(",")
_TRAILER = ord(";")
_CONTROL = b"!\xf9\4"
_CONTROL_BYTES = 8
_FLAGS_AT = 3
"""Offset of the flags in a Graphic Control Extension; the lowest bit marks a transparent colour."""

_PIXEL_COST, _TRANSPARENT_PIXEL_COST = 1.25, 2.5

_MAX_BLOCKS = 4096
"""Blocks before the first frame, including sub-blocks, which encoders fill with 255 bytes each."""


def check(data: bytes) -> tuple[bytes, float]:
    """See `service.ocr.formats.Format.check`.

    Of the blocks before the first frame, only the last Graphic Control Extension is kept, which
    tells which colour is transparent. At most 4096 blocks are allowed there.
    """
    try:
        data, transparent = _without_extensions(data)
    except IndexError:
        raise UndecodableError("The GIF is cut short.") from None
    return data, _TRANSPARENT_PIXEL_COST if transparent else _PIXEL_COST


def _without_extensions(data: bytes) -> tuple[bytes, bool]:
    """The data without extensions, and whether a colour is transparent."""
    position = screen = _SCREEN_BYTES + _colour_bytes(data[_PACKED_AT])
    control = b""
    in_extension = False
    for _ in range(_MAX_BLOCKS):
        byte = data[position]
        if in_extension:
            in_extension = byte > 0
            position += 1 + byte
        elif byte == _EXTENSION:
            if data.startswith(_CONTROL, position):
                control = data[position : position + _CONTROL_BYTES]
            in_extension = True
            position += _EXTENSION_HEADER_BYTES
        elif byte == _IMAGE:
            transparent = bool(control and control[_FLAGS_AT] & 1)
            if position > screen:
                data = data[:screen] + control + data[position:]
            return data, transparent
        elif byte == _TRAILER:
            raise UndecodableError("The GIF has no frame.")
        else:  # decoders skip other bytes
            position += 1
    raise UndecodableError(
        f"The GIF has over {_MAX_BLOCKS} blocks before its first frame; save it without metadata."
    )


def _colour_bytes(packed: int) -> int:
    """The length of the global colour table."""
    return 3 << (packed & 7) + 1 if packed & 128 else 0
