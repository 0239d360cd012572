"""Reads the orientation in EXIF data, and no other tag.

Pillow parses all tags. 64 kB can hold thousands of tags, each of which may claim the same 64 kB as
its value. Names and layout follow TIFF 6.0, section 2, and CIPA DC-008, section 4.6.5.1.
"""

import struct

SIGNATURE = b"Exif\0\0"

_ORIENTATION = 0x0112
_SHORT = 3
_MAX_TAGS = 256
"""Number of tags that are searched; cameras write about twenty besides the orientation."""


def orientation(exif: bytes) -> int:
    """The orientation, 1 to 8 as in the standard; 1, upright, if the data have no valid one.

    Args:
        exif: a TIFF header and its tags, with or without `SIGNATURE` before them.
    """
    tiff = exif.removeprefix(SIGNATURE)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4], "<")
    tag_format = struct.Struct(f"{order}HHIHxx")
    try:
        (begin,) = struct.unpack_from(f"{order}I", tiff, 4)
        (tags,) = struct.unpack_from(f"{order}H", tiff, begin)
        for number in range(min(tags, _MAX_TAGS)):
            at = begin + 2 + number * tag_format.size
            tag, _, _, value = tag_format.unpack_from(tiff, at)
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:  # cut short, or no EXIF data at all
        pass
    return 1


def encoded(orientation: int) -> bytes:
    """EXIF data with this orientation and no other tag."""
    tags = struct.pack("<HHHIHxxI", 1, _ORIENTATION, _SHORT, 1, orientation, 0)
    return SIGNATURE + b"II*\0\x08\0\0\0" + tags
