"""The blocks of a GIF before its first frame."""

import numpy as np
import pytest
from PIL import Image

from service.ocr.exceptions import UndecodableError
from service.ocr.formats.gif import check
from service.ocr.preprocessing import decode_gray
from tests.stripes import draw, encode

PLAIN = encode(draw("abc"), "GIF")
FIRST_FRAME = PLAIN.index(b",", 13 + 3 * 2 ** ((PLAIN[10] & 7) + 1))
"""The offset of the first frame."""

NETSCAPE = b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0"


def extension(label: int, *blocks: bytes) -> bytes:
    """An extension with these sub-blocks."""
    return b"!" + bytes([label]) + b"".join(bytes([len(b)]) + b for b in blocks) + b"\0"


def before_frame(more: bytes) -> bytes:
    """The picture with `more` before its first frame."""
    return PLAIN[:FIRST_FRAME] + more + PLAIN[FIRST_FRAME:]


def test_a_gif_without_metadata_is_not_copied() -> None:
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
    ids=[
        "long comment",
        "many comments",
        "empty comment",
        "empty extension",
        "separators in a comment",
        "profile",
        "filling",
    ],
)
def test_blocks_that_do_not_affect_the_pixels_are_removed(more: bytes) -> None:
    """No decoder sees them, and the picture stays the same."""
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
    ids=["many comments", "long comment", "application", "controls", "filling"],
)
def test_too_many_blocks_are_refused(endless: bytes) -> None:
    """A decoder parses each block, and a megabyte may have half a million."""
    for data in (before_frame(endless), PLAIN[:FIRST_FRAME] + endless * 9):
        with pytest.raises(UndecodableError, match="4096 blocks"):
            decode_gray(data)


def test_a_transparent_colour_is_white() -> None:
    """Other extensions beside the one that names the colour do not matter."""
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 51, 51, 51])
    image.putpixel((1, 0), 1)
    data = encode(image, "GIF", transparency=0, comment=b"red", duration=3)
    control = data.index(b"!\xf9\4")
    more = data[:control] + NETSCAPE + data[control:]
    assert len(check(more)[0]) < len(data)
    for gif in (data, more):
        assert decode_gray(gif)[0] == pytest.approx([1.0, 0.2], abs=0.003)


def test_later_frames_are_ignored() -> None:
    """Nothing after the first frame is looked at."""
    frames = [draw("abc"), draw("bca")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"c")
    assert np.array_equal(decode_gray(data), decode_gray(PLAIN))


def test_a_gif_that_is_cut_before_its_first_frame_is_refused() -> None:
    """So is a GIF without a frame."""
    data = before_frame(NETSCAPE + extension(0xFE, b"comment"))
    for length in range(6, data.index(b",", FIRST_FRAME + len(NETSCAPE)) + 1):
        with pytest.raises(UndecodableError):
            decode_gray(data[:length])
    with pytest.raises(UndecodableError, match="no frame"):
        decode_gray(PLAIN[:FIRST_FRAME] + b";")
