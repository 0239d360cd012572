"""What stands in a GIF before its first frame."""

import numpy as np
import pytest
from PIL import Image

from service.ocr.exceptions import UndecodableError
from service.ocr.formats.gif import check
from service.ocr.preprocessing import decode_gray
from tests.stripes import draw, encode

PLAIN = encode(draw("abc"), "GIF")
SCREEN = PLAIN.index(b",", 13 + 3 * 2 ** ((PLAIN[10] & 7) + 1))
"""Where the first frame begins."""

NETSCAPE = b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0"


def extension(label: int, *blocks: bytes) -> bytes:
    """An extension of some sub-blocks."""
    return b"!" + bytes([label]) + b"".join(bytes([len(b)]) + b for b in blocks) + b"\0"


def before_frame(more: bytes) -> bytes:
    """The picture with more before its first frame."""
    return PLAIN[:SCREEN] + more + PLAIN[SCREEN:]


def test_a_plain_picture_is_left_as_it_is() -> None:
    """Nothing is copied where there is nothing to leave out."""
    assert check(PLAIN)[0] is PLAIN


@pytest.mark.parametrize(
    "more",
    [
        extension(0xFE, *[b"c" * 255] * 4000),
        extension(0xFE, b"comment") * 300,
        extension(0xFE),
        extension(0x55),
        extension(0xFE, b",;!" * 80),
        NETSCAPE + extension(0xFF, b"ICCRGBG1012", *[b"p" * 255] * 100),
        bytes(100),
    ],
    ids=["comment", "comments", "empty", "nothing", "signs", "profile", "filling"],
)
def test_what_the_pixels_are_not_made_from(more: bytes) -> None:
    """No decoder sees it, and the picture is what it was."""
    assert check(before_frame(more))[0] == PLAIN


@pytest.mark.parametrize(
    "endless",
    [
        extension(0xFE, b"c") * 3000,
        extension(0xFE, *[b"c"] * 5000),
        extension(0xFF, *[b"c"] * 5000),
        extension(0xF9, bytes(4)) * 3000,
        b"\1" * 5000,
    ],
    ids=["comments", "comment", "application", "controls", "filling"],
)
def test_too_many_blocks_are_refused(endless: bytes) -> None:
    """A decoder takes each apart, and there may be half a million in a megabyte."""
    for data in (before_frame(endless), PLAIN[:SCREEN] + endless * 9):
        with pytest.raises(UndecodableError, match="4096 blocks"):
            decode_gray(data)


def test_a_transparent_colour() -> None:
    """It is white, whatever stands around the extension that names it."""
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 51, 51, 51])
    image.putpixel((1, 0), 1)
    data = encode(image, "GIF", transparency=0, comment=b"red", duration=3)
    control = data.index(b"!\xf9\4")
    more = data[:control] + NETSCAPE + data[control:]
    assert len(check(more)[0]) < len(data)
    for gif in (data, more):
        assert decode_gray(gif)[0] == pytest.approx([1.0, 0.2], abs=0.003)


def test_later_frames_are_left_alone() -> None:
    """What stands behind the first frame is no longer looked at."""
    frames = [draw("abc"), draw("bca")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"c")
    assert np.array_equal(decode_gray(data), decode_gray(PLAIN))


def test_cut_at_every_byte() -> None:
    """A picture that is cut short before its frame is refused, as is one without."""
    data = before_frame(NETSCAPE + extension(0xFE, b"comment"))
    for length in range(6, data.index(b",", SCREEN + len(NETSCAPE)) + 1):
        with pytest.raises(UndecodableError):
            decode_gray(data[:length])
    with pytest.raises(UndecodableError, match="no frame"):
        decode_gray(PLAIN[:SCREEN] + b";")
