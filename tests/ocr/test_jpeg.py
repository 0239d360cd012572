"""JPEGs of few bytes that would take a decoder long, and real JPEGs that look like them."""

import random

import numpy as np
import pytest
from PIL import Image

from service.ocr.exceptions import PictureTooLargeError, UndecodableError
from service.ocr.formats.jpeg import check
from service.ocr.preprocessing import decode_gray
from tests.stripes import draw, encode

SOI = 2
PLAIN = encode(draw("abc"), "JPEG")


def segment(marker: int, body: bytes = b"") -> bytes:
    """One segment, with its length."""
    return b"\xff" + bytes([marker]) + (len(body) + 2).to_bytes(2) + body


def after_start(more: bytes, jpeg: bytes = PLAIN) -> bytes:
    """The picture with `more` after its SOI."""
    return jpeg[:SOI] + more + jpeg[SOI:]


def before_end(more: bytes, jpeg: bytes) -> bytes:
    """The picture with `more` before its EOI."""
    return jpeg[:-2] + more + jpeg[-2:]


PROGRESSIVE = encode(draw("abc").resize((400, 80)), "JPEG", progressive=True)
LAST_SCAN = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]
SCANS = PROGRESSIVE.count(b"\xff\xda")


def test_too_many_scans_are_refused() -> None:
    """A progressive JPEG may repeat its last scan in 14 bytes. Each goes through all pixels."""
    assert decode_gray(before_end(LAST_SCAN * (64 - SCANS), PROGRESSIVE)).shape == (80, 400)
    with pytest.raises(UndecodableError, match="64 scans"):
        decode_gray(before_end(LAST_SCAN * (65 - SCANS), PROGRESSIVE))


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC7, 0xC9, 0xCA, 0xCB, 0xCF])
def test_rare_kinds_of_jpeg_are_refused(marker: int) -> None:
    """Arithmetic coding costs many times what its bytes suggest. Nobody writes the other kinds."""
    baseline = PLAIN.index(b"\xff\xc0")
    data = PLAIN[:baseline] + b"\xff" + bytes([marker]) + PLAIN[baseline + 2 :]
    with pytest.raises(UndecodableError, match="arithmetically coded"):
        decode_gray(data)


def test_more_scans_allow_fewer_pixels() -> None:
    few = decode_gray(PROGRESSIVE, max_pixels=400 * 80 * 4)
    assert few.shape == (80, 400)
    many = before_end(LAST_SCAN * (64 - SCANS), PROGRESSIVE)
    with pytest.raises(PictureTooLargeError, match="at most 12800 in all"):
        decode_gray(many, max_pixels=400 * 80 * 4)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_more_components_allow_fewer_pixels(mode: str) -> None:
    """Colour costs more than gray, and four inks cost more than colour."""
    data = encode(draw("abc").convert(mode), "JPEG")
    cost = {"L": 1, "RGB": 1.25, "CMYK": 2.5}[mode]
    most = int(draw("abc").width * draw("abc").height * cost)
    assert decode_gray(data, max_pixels=most).shape == (8, 40)
    with pytest.raises(PictureTooLargeError):
        decode_gray(data, max_pixels=most - 1)


ENDLESS = {
    "comments": segment(0xFE),
    "Exif": segment(0xE1, b"Exif\0\0"),
    "frames": segment(0xC0, b"\x08\0\x32\0\xc8\1\1\x11\0"),
    "quantization tables": segment(0xDB),
    "Huffman tables": segment(0xC4),
    "restart intervals": segment(0xDD, b"\0\0"),
    "lines": segment(0xDC),
    "reserved": segment(0xF0),
    "restarts": b"\xff\xd0",
    "starts": b"\xff\xd8",
}
"""Segments that take a decoder time. A megabyte may have a quarter of a million of them."""


@pytest.mark.parametrize("repeated", ENDLESS.values(), ids=ENDLESS)
def test_hundreds_of_segments_before_the_scan_are_refused(repeated: bytes) -> None:
    """Their kind does not matter."""
    with pytest.raises(UndecodableError, match="256 segments"):
        decode_gray(after_start(repeated * 300))


@pytest.mark.parametrize("name", ["comments", "Exif", "lines"])
def test_a_hundred_segments_are_accepted(name: str) -> None:
    """Nobody would send so many, but they change nothing."""
    assert np.array_equal(decode_gray(after_start(ENDLESS[name] * 100)), decode_gray(PLAIN))


@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xED, 0xFE])
def test_metadata_do_not_reach_the_decoder(marker: int) -> None:
    """Pillow parses a megabyte of Photoshop's metadata, or a few kilobytes of MPF's, in Python."""
    data, _ = check(after_start(segment(marker, b"8BIM" * 15_000) * 16))
    assert data == PLAIN


@pytest.mark.parametrize(
    "body", [(b"\0" + b"\1" * 64) * 1000, b"\x08\0\x10\0\x10\1" + b"\1\x11\0" * 9999]
)
def test_too_many_bytes_of_tables_are_refused(body: bytes) -> None:
    """Pillow makes Python lists of each table. Nobody sends even two segments of one kind."""
    marker = 0xDB if body[0] == 0 else 0xC0
    with pytest.raises(UndecodableError, match="bytes of tables"):
        decode_gray(after_start(segment(marker, body) * 3))


@pytest.mark.parametrize("name", ["comments", "quantization tables", "lines", "restarts"])
def test_hundreds_of_segments_between_scans_are_refused(name: str) -> None:
    """A hundred segments change nothing."""
    between = before_end(ENDLESS[name] * 100 + LAST_SCAN, PROGRESSIVE)
    assert decode_gray(between).shape == (80, 400)
    if name != "restarts":  # restarts are part of a scan
        with pytest.raises(UndecodableError, match="256 segments"):
            decode_gray(before_end(ENDLESS[name] * 300 + LAST_SCAN, PROGRESSIVE))


@pytest.mark.parametrize("filling", [b"\xff", b"\xff\0", b"\0", b"a"], ids=repr)
def test_much_filling_is_refused(filling: bytes) -> None:
    """A decoder goes through filling byte by byte. A little filling is accepted."""
    comment = segment(0xFE)
    assert np.array_equal(decode_gray(after_start(comment + filling * 500)), decode_gray(PLAIN))
    for endless in (comment + filling * 5000, (comment + filling * 50) * 100):
        with pytest.raises(UndecodableError, match="outside of segments"):
            decode_gray(after_start(endless))


def test_markers_inside_segments_are_ignored() -> None:
    """Profiles and thumbnails hold any bytes. These do not begin a segment or a scan."""
    body = b"ICC_PROFILE\0\1\1" + b"\xff\xe1\xff\xda\xff\xd9" * 5000
    noise = random.Random(0).randbytes(65_000)
    profile = segment(0xE2, body) + segment(0xE2, noise) * 9
    assert np.array_equal(decode_gray(after_start(profile)), decode_gray(PLAIN))


def test_data_after_the_end_are_ignored() -> None:
    """A video or a second picture may follow the first."""
    behind = segment(0xFE) * 300 + LAST_SCAN * 100 + b"\xff" * 5000
    assert np.array_equal(decode_gray(PLAIN + behind), decode_gray(PLAIN))


def test_a_profile_in_several_segments_and_a_thumbnail_are_accepted() -> None:
    """A photograph has kilobytes of metadata, and is turned upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 270 degrees
    thumbnail = encode(draw("abc"), "JPEG") * 30
    noise = random.Random(0).randbytes(300_000)
    options = {"exif": exif.tobytes() + thumbnail, "icc_profile": noise, "progressive": True}
    plain = encode(draw("abc").resize((400, 80)), "JPEG", progressive=True)
    photograph = encode(draw("abc").resize((400, 80)), "JPEG", **options)
    assert np.array_equal(decode_gray(photograph), np.rot90(decode_gray(plain), -1))


def test_only_the_first_exif_segment_is_used() -> None:
    """A JPEG has one. Pillow would join all of them, and read each of 65535 tags."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pieces = segment(0xE1, exif.tobytes()) + segment(0xFE)
    pieces += segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 2
    data, _ = check(after_start(pieces))
    assert len(data) < len(PLAIN) + 100
    assert np.array_equal(decode_gray(data), np.rot90(decode_gray(PLAIN), -1))
    assert np.array_equal(decode_gray(after_start(pieces)), decode_gray(data))


def test_stuffed_bytes_and_restarts_in_a_scan_are_not_counted() -> None:
    """The scan of a picture of noise has many of them."""
    noise = np.random.default_rng(0).integers(0, 255, (400, 400), np.uint8)
    for options in ({"quality": 100}, {"quality": 100, "restart_marker_blocks": 1}):
        data = encode(Image.fromarray(noise), "JPEG", **options)
        assert data.count(b"\xff\0") > 300
        assert decode_gray(data).shape == (400, 400)


def test_a_jpeg_without_a_scan_is_refused() -> None:
    """It has no pixels, or ends within the header of a segment."""
    for data in (PLAIN[: PLAIN.index(b"\xff\xda")], b"\xff\xd8\xff", b"\xff\xd8\xff\xfe\xff"):
        with pytest.raises(UndecodableError, match="no scan"):
            decode_gray(data)
