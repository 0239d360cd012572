import io
import struct
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from service.ocr.exceptions import RegionError
from service.ocr.formats import FORMATS, sniff
from service.ocr.preprocessing import Region, decode_gray, decode_rgb, preprocess, to_model_input
from service.ocr.recognizer import Recognizer
from tests.pngs import chunk, png
from tests.stripes import draw, encode


def gray_of(image: Image.Image, format: str = "PNG", **options: object) -> np.ndarray:
    return decode_gray(encode(image, format, **options))


def test_time_axis_comes_first() -> None:
    """Column x of the picture is row x of the tensor, top first."""
    image = Image.new("L", (200, 50), 255)
    image.putpixel((150, 10), 0)
    tensor = preprocess(encode(image), 200, 50)
    assert tensor.shape == (200, 50, 1)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert np.argwhere(tensor == 0).tolist() == [[150, 10, 0]]


def test_another_size_is_stretched() -> None:
    """A picture of twice the size gives nearly the tensor of the picture itself."""
    image = draw("abcd").resize((200, 50), Image.Resampling.BILINEAR)
    large = image.resize((400, 100), Image.Resampling.BICUBIC)
    tensor, from_large = (preprocess(encode(i), 200, 50) for i in (image, large))
    assert np.abs(tensor - from_large).mean() < 0.01


MODES = {
    "1": (Image.new("1", (3, 2), 1), 1.0),
    "L": (Image.new("L", (3, 2), 51), 0.2),
    "LA opaque": (Image.new("LA", (3, 2), (51, 255)), 0.2),
    "LA clear": (Image.new("LA", (3, 2), (0, 0)), 1.0),
    "LA half": (Image.new("LA", (3, 2), (0, 51)), 0.8),
    "RGB": (Image.new("RGB", (3, 2), (255, 0, 0)), 0.298),
    "RGBA opaque": (Image.new("RGBA", (3, 2), (51, 51, 51, 255)), 0.2),
    "RGBA clear": (Image.new("RGBA", (3, 2), (0, 0, 0, 0)), 1.0),
    "RGBA half": (Image.new("RGBA", (3, 2), (0, 0, 0, 102)), 0.6),
    "I;16 middle": (Image.fromarray(np.full((2, 3), 13107, np.uint16)), 0.2),
    "I;16 full": (Image.fromarray(np.full((2, 3), 65535, np.uint16)), 1.0),
}


@pytest.mark.parametrize("mode", MODES)
def test_modes(mode: str) -> None:
    """Every mode gives luma from 0 to 1; alpha is composited on white, 16 bits are scaled."""
    image, expected = MODES[mode]
    gray = gray_of(image)
    assert gray.shape == (2, 3)
    assert gray == pytest.approx(np.full((2, 3), expected), abs=0.003)


def test_palette() -> None:
    """A palette picture has the luma of its colours."""
    image = Image.new("P", (2, 1))
    image.putpalette([255, 255, 255, 51, 51, 51])
    image.putpixel((1, 0), 1)
    assert gray_of(image)[0] == pytest.approx([1.0, 0.2], abs=0.003)


def test_palette_with_transparency() -> None:
    """A palette entry that is transparent is white, one that is half clear is half white."""
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0] * 3)
    image.putdata([0, 1, 2])
    assert gray_of(image, transparency=bytes([0, 51, 255]))[0] == pytest.approx(
        [1.0, 0.8, 0.0], abs=0.003
    )


@pytest.mark.parametrize(("mode", "key"), [("L", 7), ("RGB", (7, 7, 7)), ("1", 0)])
def test_transparent_colour_key(mode: str, key: Any) -> None:
    """The colour that a PNG declares transparent is white."""
    image = Image.new(mode, (2, 1), 1 if mode == "1" else "white")
    image.putpixel((0, 0), key)
    assert gray_of(image, transparency=key)[0] == pytest.approx([1.0, 1.0], abs=0.003)


def test_transparent_key_of_sixteen_bits() -> None:
    """A 16-bit gray level that a PNG declares transparent is white, its neighbour is not."""
    data = png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 700, 701), chunk(b"tRNS", b"\x02\xbc"))
    assert decode_gray(data)[0] == pytest.approx([1.0, 701 / 65535], abs=1e-6)


def test_transparent_key_of_few_bits() -> None:
    """Keys of 2- and 4-bit gray are scaled as the samples are."""
    four = png(2, 1, 4, 0, b"\0\x34", chunk(b"tRNS", b"\0\x03"))
    assert decode_gray(four)[0] == pytest.approx([1.0, 4 / 15], abs=0.003)
    two = png(2, 1, 2, 0, b"\0" + bytes([0b01100000]), chunk(b"tRNS", b"\0\x01"))
    assert decode_gray(two)[0] == pytest.approx([1.0, 2 / 3], abs=0.003)


def test_transparent_key_of_sixteen_bit_colour() -> None:
    """So are keys of 16-bit colour."""
    black, gray = struct.pack(">HHH", 300, 300, 300), struct.pack(">HHH", 13107, 13107, 13107)
    data = png(2, 1, 16, 2, b"\0" + black + gray, chunk(b"tRNS", black))
    assert decode_gray(data)[0] == pytest.approx([1.0, 0.2], abs=0.003)


def test_exif_that_cannot_be_read_is_left_aside() -> None:
    """The pixels of such a picture are sound, and are read as they stand."""
    image = draw("abc")
    assert np.array_equal(decode_gray(encode(image, exif=b"zzzzzzzzzzz")), gray_of(image))


def test_sixteen_bit_colour() -> None:
    """16-bit RGB is scaled like 16-bit gray."""
    data = png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 13107, 13107, 13107))
    assert decode_gray(data)[0] == pytest.approx([0.2], abs=0.003)


def test_cmyk() -> None:
    """Ink is subtracted: no ink is white, full black ink is black."""
    image = Image.new("CMYK", (16, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (8, 0, 16, 8))
    gray = gray_of(image, "JPEG", quality=100)
    assert gray[4, [2, 13]] == pytest.approx([1.0, 0.0], abs=0.03)


@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_applied(orientation: int) -> None:
    """A picture stored on its side, or mirrored, is read upright; 0 and 9 mean nothing."""
    image = draw("abc")
    exif = image.getexif()
    exif[0x0112] = orientation
    upright = ImageOps.exif_transpose(image)
    assert np.array_equal(decode_gray(encode(image, exif=exif)), gray_of(upright))


def test_the_other_exif_tags_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """To write 65535 of them anew takes seconds, for 800 kB of metadata."""
    upright = draw("abc")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 270 degrees
    stored = encode(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
    monkeypatch.delattr(Image.Exif, "tobytes")
    assert np.array_equal(decode_gray(stored), gray_of(upright))


def exif_of(size: int, orientation: int = 6) -> bytes:
    """So many bytes that ask for a turn, by 270 degrees, and say nothing else."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes().ljust(size, b"\0")


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
def test_as_much_exif_as_a_photograph_has(format: str) -> None:
    """With a thumbnail it fills the segment of a JPEG, wherever it is copied from there."""
    stored = draw("abc").convert("RGB")
    turned = np.rot90(gray_of(stored, format), -1)
    assert np.array_equal(gray_of(stored, format, exif=exif_of(65_533)), turned)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("turned_by", [0, 255, 256, 5000])
def test_exif_of_very_many_tags(format: str, turned_by: int) -> None:
    """Only 256 are looked at, and none is taken apart: each may claim all data as its value."""
    tags = [struct.pack("<HHII", number, 7, 60_000, 0) for number in range(1000, 6001)]
    tags[turned_by] = struct.pack("<HHII", 0x0112, 3, 1, 6)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4)
    stored = draw("abc").convert("RGB")
    data = encode(stored, format, exif=exif)
    plain = gray_of(stored, format)
    tracemalloc.start()
    try:
        read = decode_gray(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(read, np.rot90(plain, -1) if turned_by < 256 else plain)
    assert peak < 1 << 20


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_first_frame_of_an_animation(format: str) -> None:
    """Later frames do not count."""
    frames = [Image.new("L", (4, 4), 0), Image.new("L", (4, 4), 255)]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
    assert decode_gray(data).max() < 0.1


def lossless_encodings() -> dict[str, bytes]:
    image = draw("abcd dcba")
    rgb = image.convert("RGB")
    rgba = image.convert("RGBA")
    wide = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 3
    return {
        "PNG L": encode(image),
        "PNG LA": encode(image.convert("LA")),
        "PNG P": encode(image.convert("P")),
        "PNG RGB": encode(rgb),
        "PNG RGBA": encode(rgba),
        "PNG I;16": encode(wide),
        "PNG optimized": encode(image, optimize=True, compress_level=9),
        "PNG turned": encode(image.transpose(Image.Transpose.ROTATE_180), exif=exif),
        "WEBP RGB": encode(rgb, "WEBP", lossless=True),
        "WEBP RGBA": encode(rgba, "WEBP", lossless=True),
        "BMP L": encode(image, "BMP"),
        "BMP RGB": encode(rgb, "BMP"),
        "GIF": encode(image, "GIF"),
    }


@pytest.mark.parametrize("encoding", lossless_encodings())
def test_lossless_encodings_read_the_same(encoding: str, recognizer: Recognizer) -> None:
    """The encoding of a picture changes neither the text nor, by 0.01, a confidence."""
    expected = recognizer.read(encode(draw("abcd dcba")))
    found = recognizer.read(lossless_encodings()[encoding])
    assert found.text == expected.text == "abcddcba"
    assert found.confidence == pytest.approx(expected.confidence, abs=0.01)
    assert [c.confidence for c in found.characters] == pytest.approx(
        [c.confidence for c in expected.characters], abs=0.01
    )


@pytest.mark.parametrize("name", [known.name for known in FORMATS])
def test_formats_are_recognized_by_content(name: str) -> None:
    """The first bytes tell the format."""
    found = sniff(encode(draw("ab").convert("RGB"), name))
    assert found is not None
    assert found.name == name


def test_no_format_claims_what_another_does() -> None:
    """Suffixes and media types name one format each."""
    for members in ([f.suffixes for f in FORMATS], [f.media_types for f in FORMATS]):
        every = [member for group in members for member in group]
        assert len(set(every)) == len(every) >= len(FORMATS)


# Red and green of one luma cannot be told apart in gray.
RED, GREEN = (150, 0, 0), (0, 76, 0)


def test_colour() -> None:
    """Three channels are red, green and blue, with the time axis first."""
    image = Image.new("RGB", (200, 50), GREEN)
    image.putpixel((150, 10), RED)
    data = encode(image)
    tensor = preprocess(data, 200, 50, 3)
    assert tensor.shape == (200, 50, 3)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert tensor[150, 10] * 255 == pytest.approx(RED)
    assert tensor[150, 11] * 255 == pytest.approx(GREEN)
    assert np.ptp(preprocess(data, 200, 50)) < 0.01
    assert decode_rgb(data).shape == (50, 200, 3)


@pytest.mark.parametrize("size", [(200, 50), (60, 20), (1500, 400)], ids=str)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_gray_pictures_have_three_equal_channels(mode: str, size: tuple[int, int]) -> None:
    """Whatever their mode and size, a colour model sees what a gray one does."""
    levels = np.random.default_rng(3).integers(0, 2, size[::-1]).astype(np.uint8) * 255
    image = Image.fromarray(levels)
    if mode == "I;16":
        image = Image.fromarray(levels.astype(np.uint16) * 257)
    elif mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(levels // 2))
    else:
        image = image.convert(mode)
    data = encode(image)
    gray, rgb = (preprocess(data, 60, 20, channels, max_pixels=20_000_000) for channels in (1, 3))
    assert np.abs(rgb - gray).max() < 1e-6
    rgb, gray = (decode(data, max_pixels=20_000_000) for decode in (decode_rgb, decode_gray))
    assert np.abs(rgb - gray[:, :, np.newaxis]).max() < 1e-6


def test_colour_is_oriented_and_composited_as_gray_is() -> None:
    """A transparent picture that lies on its side."""
    image = Image.new("RGBA", (6, 4), (255, 0, 0, 255))
    image.putpixel((5, 0), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 270 degrees
    rgb = decode_rgb(encode(image, exif=exif))
    assert rgb.shape == (6, 4, 3)
    assert rgb[5, 3].tolist() == [1, 1, 1]
    assert rgb[0, 0].tolist() == [1, 0, 0]


def on_transparent(colour: tuple[int, int, int], shown: float = 0.2) -> bytes:
    """A bar of that colour on a transparent ground."""
    image = Image.new("RGBA", (100, 10), (0, 0, 0, 0))
    image.paste((*colour, 255), (0, 0, int(100 * shown), 10))
    return encode(image)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("colour", "ground"),
    [
        ((255, 255, 255), 0),
        ((255, 255, 0), 0),
        ((200, 200, 200), 0),
        ((0, 0, 0), 1),
        ((255, 0, 0), 1),
        ((120, 120, 120), 1),
    ],
    ids=str,
)
def test_transparent_ground_contrasts(
    colour: tuple[int, int, int], ground: int, channels: int
) -> None:
    """Light text on a transparent ground is put on black, other text on white."""
    tensor = preprocess(on_transparent(colour), 100, 10, channels)
    assert tensor[60, 5] == pytest.approx([ground] * channels)
    assert np.abs(tensor[5, 5] - tensor[60, 5]).max() > 0.4


def test_white_paper_with_transparent_corners_stays_on_white() -> None:
    """Where most of the picture is opaque, its own paper is the ground."""
    tensor = preprocess(on_transparent((255, 255, 255), shown=0.9), 100, 10)
    assert tensor.min() == 1


def bmp_with_palette(rows: Sequence[bytes], width: int, bits: int, palette: bytes) -> bytes:
    """A BMP of rows from the bottom up, padded, and of four bytes for each colour."""
    pixels = b"".join(rows)
    colours = len(palette) // 4
    size = 40, width, len(rows), 1, bits
    info = struct.pack("<IiiHHIIiiII", *size, 0, len(pixels), 0, 0, colours, 0)
    begin = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<III", begin + len(pixels), 0, begin) + info + palette + pixels


@pytest.mark.parametrize(
    ("bits", "row"), [(1, b"\x60\0\0\0"), (4, b"\x01\x10\0\0"), (8, b"\0\1\1\0")]
)
def test_bmp_of_black_and_white(bits: int, row: bytes) -> None:
    """Two colours, however many bits a pixel has; Pillow would take them for one bit."""
    data = bmp_with_palette([row, bytes(4)], 4, bits, bytes(4) + b"\xff\xff\xff\0")
    assert decode_gray(data).tolist() == [[0, 0, 0, 0], [0, 1, 1, 0]]


def bmp_with_alpha(pixels: bytes, width: int, height: int) -> bytes:
    """A BMP of 32-bit pixels, blue first, whose header (BITMAPV4HEADER) has a mask of alpha."""
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    head = (info + masks).ljust(108, b"\0")
    return b"BM" + struct.pack("<III", 14 + 108 + len(pixels), 0, 14 + 108) + head + pixels


def test_bmp_without_any_alpha_is_opaque() -> None:
    """Many programs leave the fourth byte of a pixel at zero."""
    assert decode_gray(bmp_with_alpha(bytes(4 * 6), 3, 2)).max() == 0


def test_bmp_with_alpha_is_composited() -> None:
    """A single opaque pixel makes alpha count."""
    pixels = bytes(3) + b"\xff" + bytes(4 * 5)
    assert decode_gray(bmp_with_alpha(pixels, 3, 2)).sum() == pytest.approx(5)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_region_is_that_of_the_upright_picture(orientation: int, channels: int) -> None:
    """It gives what a picture of that part alone gives."""
    noise = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    whole = Image.fromarray(noise)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encode(whole, exif=exif))))
    region = Region(7, 3, 30, 20)
    part = to_model_input(encode(whole, exif=exif), 20, 10, channels, region=region)
    alone = to_model_input(encode(upright.crop((7, 3, 37, 23))), 20, 10, channels)
    assert (part.tensor == alone.tensor).all()
    assert part[1:] == alone[1:] == (30, 20)


@pytest.mark.parametrize("region", [(31, 0, 30, 40), (0, 1, 60, 40), (60, 0, 1, 1)])
def test_a_region_outside_of_the_picture(region: tuple[int, int, int, int]) -> None:
    """The error says which it was, and how large the picture is."""
    expected = f"{','.join(map(str, region))} was given; .* has 60×40 pixels"
    with pytest.raises(RegionError, match=expected):
        to_model_input(encode(Image.new("L", (60, 40))), 20, 10, region=Region(*region))
