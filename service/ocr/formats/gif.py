"""Walks over the blocks of a GIF before its first frame, of which there may be very many.

Names and layout follow CompuServe's Graphics Interchange Format, version 89a.
"""

from service.ocr.exceptions import UndecodableError

_SCREEN_BYTES = 13
_PACKED_AT = 10
"""Where the screen says whether a table of colours follows, and of how many."""

_EXTENSION = ord("!")
_EXTENSION_HEAD_BYTES = 2
_IMAGE = ord(",")
_TRAILER = ord(";")
_CONTROL = b"!\xf9\4"
_CONTROL_BYTES = 8

_MOST_BLOCKS = 4096
"""Sub-blocks of extensions, too, which have 255 bytes each where they are written in earnest."""


def without_extensions(data: bytes) -> bytes:
    """The same picture with nothing before its first frame but which colour is transparent there.

    Args:
        data: begins with a GIF's signature.

    Returns:
        A GIF; `data` itself where nothing had to be left out.

    Raises:
        UndecodableError: without a frame, or of too many blocks before it.
    """
    try:
        return _without_extensions(data)
    except IndexError:
        raise UndecodableError("The GIF is cut short.") from None


def _without_extensions(data: bytes) -> bytes:
    position = screen = _SCREEN_BYTES + _colour_bytes(data[_PACKED_AT])
    control = b""
    in_extension = False
    for _ in range(_MOST_BLOCKS):
        byte = data[position]
        if in_extension:
            in_extension = byte > 0
            position += 1 + byte
        elif byte == _EXTENSION:
            if data.startswith(_CONTROL, position):
                control = data[position : position + _CONTROL_BYTES]
            in_extension = True
            position += _EXTENSION_HEAD_BYTES
        elif byte == _IMAGE:
            return data if position == screen else data[:screen] + control + data[position:]
        elif byte == _TRAILER:
            raise UndecodableError("The GIF has no frame.")
        else:  # what decoders skip
            position += 1
    raise UndecodableError(
        f"The GIF has over {_MOST_BLOCKS} blocks before its first frame; save it without metadata."
    )


def _colour_bytes(packed: int) -> int:
    """How long the global table of colours is."""
    return 3 << (packed & 7) + 1 if packed & 128 else 0
