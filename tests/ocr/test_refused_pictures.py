import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.costly_pictures import prefix_codes
from service.ocr.exceptions import PictureTooLargeError, UndecodableError, UnsupportedFormatError
from service.ocr.formats import FORMATS
from service.ocr.preprocessing import MAX_SIDE, decode_gray, to_model_input
from tests.pngs import png
from tests.stripes import draw, encode

ROOT = Path(__file__).parents[2]


def test_a_run_length_encoded_bmp_is_refused() -> None:
    """Pillow decodes it in Python, which takes a hundred times as long for the same bytes."""
    data = bytearray(encode(draw("abc").convert("L"), "BMP"))
    assert data[30:34] == bytes(4)
    data[30:34] = b"\1\0\0\0"
    with pytest.raises(UndecodableError, match="uncompressed"):
        decode_gray(bytes(data))


def test_a_bmp_with_a_palette_that_is_too_large_is_refused() -> None:
    """Pillow would look at each of its colours, even if the file does not contain them."""
    data = bytearray(encode(draw("abc").convert("L"), "BMP"))
    data[46:50] = (65536).to_bytes(4, "little")
    with pytest.raises(UndecodableError, match="65536 colours"):
        decode_gray(bytes(data))


@pytest.mark.parametrize("data", [b"hello", b"%PDF-1.7", b"II*\0" + bytes(40), b"<svg/>"])
def test_other_formats_are_refused(data: bytes) -> None:
    """The error lists the formats that are read."""
    with pytest.raises(UnsupportedFormatError, match=", ".join(known.name for known in FORMATS)):
        decode_gray(data)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(UndecodableError, match="empty"):
        decode_gray(b"")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_truncated_pictures_are_refused(format: str) -> None:
    """A picture that is cut short anywhere is an error, not half a picture."""
    noise = np.random.default_rng(0).integers(0, 255, (50, 200), np.uint8)
    data = encode(Image.fromarray(noise), format)
    for size in [*range(1500), *range(1500, int(0.9 * len(data)), 1500)]:
        with pytest.raises((UndecodableError, UnsupportedFormatError)):
            decode_gray(data[:size])


@pytest.mark.parametrize(("side", "unused"), [(4, 65_000), (700, 0)])
def test_a_webp_of_many_prefix_codes_is_refused(side: int, unused: int) -> None:
    """Many codes take long even for few pixels, and much memory where pixels use them."""
    assert decode_gray(prefix_codes(64, 64)).max() == 0
    with pytest.raises(PictureTooLargeError, match="WEBP"):
        decode_gray(prefix_codes(side, side, unused))


def test_a_webp_of_many_parts_is_refused() -> None:
    """A megabyte of the names of parts takes as long as ten pictures, and is no picture."""
    data = encode(draw("abc"), "WEBP", lossless=True)
    part = b"VP8L" + bytes(4)
    assert np.array_equal(decode_gray(data + 1000 * part), decode_gray(data))
    with pytest.raises(UndecodableError, match="over 1024 lossless parts"):
        decode_gray(data + 1024 * part)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_small_lossless_webp_does_not_count_as_slow(mode: str) -> None:
    """This holds even for a picture of noise."""
    samples = np.random.default_rng(0).integers(0, 255, (50, 130, len(mode)), np.uint8)
    data = encode(Image.fromarray(samples, mode), "WEBP", lossless=True)
    assert to_model_input(data, 200, 50, slow=False).width == 130


@pytest.mark.parametrize(("width", "height"), [(0, 10), (10, 0)])
def test_a_picture_without_a_pixel_is_refused(width: int, height: int) -> None:
    with pytest.raises(UndecodableError):
        decode_gray(png(width, height, 8, 0, b""))


@pytest.mark.parametrize("side", [2001, 20_000, 2**31 - 1])
def test_too_many_pixels_are_refused_by_the_header(side: int) -> None:
    """The header decides: these files contain no pixels."""
    with pytest.raises(PictureTooLargeError, match=r"at most [24]000000"):
        decode_gray(png(side, side, 8, 0, b""), max_pixels=4_000_000)


def test_a_picture_may_have_exactly_the_most_pixels() -> None:
    """Width × height may equal the limit, divided by what a pixel of the kind costs."""
    for image, most in ((Image.new("L", (20, 5)), 200), (Image.new("RGBA", (20, 5)), 500)):
        assert decode_gray(encode(image), max_pixels=most).shape == (5, 20)
        with pytest.raises(PictureTooLargeError, match=r"20×5 pixels; at most 99 in all.*Shrink"):
            decode_gray(encode(image), max_pixels=most - 1)


def test_a_side_that_is_too_long_is_refused() -> None:
    """A picture of one row may be as long as the limit, and no longer."""
    line = Image.new("L", (MAX_SIDE, 1), 255)
    assert decode_gray(encode(line)).shape == (1, MAX_SIDE)
    with pytest.raises(PictureTooLargeError, match="a side"):
        decode_gray(encode(Image.new("L", (MAX_SIDE + 1, 1), 255)))


def test_pillow_gives_no_warnings() -> None:
    """Pillow's warnings contain numbers of the file. Python would keep one for each file."""
    code = """
import io, sys
from PIL import Image, TiffImagePlugin
from service.ocr.exceptions import PictureTooLargeError
from service.ocr.preprocessing import decode_gray
from tests.pngs import png
from tests.stripes import draw, encode

def exif(claimed):
    tag = (0x0131).to_bytes(2, "big") + b"\\0\\2" + claimed.to_bytes(4, "big") + bytes(4)
    return b"Exif\\0\\0MM\\0*\\0\\0\\0\\x08\\0\\1" + tag + bytes(4)

for number in range(5):
    decode_gray(encode(draw("abc"), "JPEG", exif=exif(900 + number)))
    try:
        decode_gray(png(10_000, 10_000 + number, 8, 0, b""))
    except PictureTooLargeError:
        continue
    sys.exit("no refusal")
for module in (Image, TiffImagePlugin):
    assert len(getattr(module, "__warningregistry__", {})) <= 1, module.__warningregistry__
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
