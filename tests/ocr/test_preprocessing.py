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


def test_the_time_axis_comes_first() -> None:
    """Column x of the picture is row x of the tensor, top to bottom."""
    image = Image.new("L", (200, 50), 255)
    image.putpixel((150, 10), 0)
    tensor = preprocess(encode(image), 200, 50)
    assert tensor.shape == (200, 50, 1)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert np.argwhere(tensor == 0).tolist() == [[150, 10, 0]]


def test_a_picture_of_another_size_is_stretched() -> None:
    """A picture of twice the size gives nearly the same tensor."""
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
def test_every_mode_gives_luma_from_0_to_1(mode: str) -> None:
    """Alpha is composited on white, and 16 bits are scaled."""
    image, expected = MODES[mode]
    gray = gray_of(image)
    assert gray.shape == (2, 3)
    assert gray == pytest.approx(np.full((2, 3), expected), abs=0.003)


def test_a_palette_picture_has_the_luma_of_its_colours() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 255, 255, 51, 51, 51])
    image.putpixel((1, 0), 1)
    assert gray_of(image)[0] == pytest.approx([1.0, 0.2], abs=0.003)


def test_transparent_palette_entries_are_composited_on_white() -> None:
    """A transparent entry is white, and a half transparent entry is half white."""
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0] * 3)
    image.putdata([0, 1, 2])
    assert gray_of(image, transparency=bytes([0, 51, 255]))[0] == pytest.approx(
        [1.0, 0.8, 0.0], abs=0.003
    )


@pytest.mark.parametrize(("mode", "key"), [("L", 7), ("RGB", (7, 7, 7)), ("1", 0)])
def test_the_colour_that_a_png_declares_transparent_is_white(mode: str, key: Any) -> None:
    image = Image.new(mode, (2, 1), 1 if mode == "1" else "white")
    image.putpixel((0, 0), key)
    assert gray_of(image, transparency=key)[0] == pytest.approx([1.0, 1.0], abs=0.003)


def test_a_transparent_16_bit_gray_level_is_white() -> None:
    """Its neighbouring level is not."""
    data = png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 700, 701), chunk(b"tRNS", b"\x02\xbc"))
    assert decode_gray(data)[0] == pytest.approx([1.0, 701 / 65535], abs=1e-6)


def test_transparent_gray_levels_of_2_and_4_bits_are_white() -> None:
    """They are scaled as the samples are."""
    four = png(2, 1, 4, 0, b"\0\x34", chunk(b"tRNS", b"\0\x03"))
    assert decode_gray(four)[0] == pytest.approx([1.0, 4 / 15], abs=0.003)
    two = png(2, 1, 2, 0, b"\0" + bytes([0b01100000]), chunk(b"tRNS", b"\0\x01"))
    assert decode_gray(two)[0] == pytest.approx([1.0, 2 / 3], abs=0.003)


def test_a_transparent_16_bit_colour_is_white() -> None:
    black, gray = struct.pack(">HHH", 300, 300, 300), struct.pack(">HHH", 13107, 13107, 13107)
    data = png(2, 1, 16, 2, b"\0" + black + gray, chunk(b"tRNS", black))
    assert decode_gray(data)[0] == pytest.approx([1.0, 0.2], abs=0.003)


def test_unreadable_exif_is_ignored() -> None:
    """The pixels of such a picture are sound, and are read as they are stored."""
    image = draw("abc")
    assert np.array_equal(decode_gray(encode(image, exif=b"zzzzzzzzzzz")), gray_of(image))


@pytest.mark.parametrize("where", ["PIL.Image.open", "PIL.ImageFile.ImageFile.load"])
def test_a_picture_is_not_called_broken_because_memory_is_short(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture is sound, and may be read when there is memory again."""

    def fail(*arguments: object, **options: object) -> None:
        raise MemoryError

    data = encode(draw("ab"))
    monkeypatch.setattr(where, fail)
    with pytest.raises(MemoryError):
        preprocess(data, 200, 50)


def test_16_bit_colour_is_scaled_like_16_bit_gray() -> None:
    data = png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 13107, 13107, 13107))
    assert decode_gray(data)[0] == pytest.approx([0.2], abs=0.003)


def test_cmyk_is_read_as_ink() -> None:
    """No ink is white, and full black ink is black."""
    image = Image.new("CMYK", (16, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (8, 0, 16, 8))
    gray = gray_of(image, "JPEG", quality=100)
    assert gray[4, [2, 13]] == pytest.approx([1.0, 0.0], abs=0.03)


@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_applied(orientation: int) -> None:
    """A picture that is stored on its side or mirrored is read upright. 0 and 9 mean nothing."""
    image = draw("abc")
    exif = image.getexif()
    exif[0x0112] = orientation
    upright = ImageOps.exif_transpose(image)
    assert np.array_equal(decode_gray(encode(image, exif=exif)), gray_of(upright))


def test_the_other_exif_tags_are_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing 65535 tags takes seconds, for 800 kB of metadata."""
    upright = draw("abc")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 270 degrees
    stored = encode(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
    monkeypatch.delattr(Image.Exif, "tobytes")
    assert np.array_equal(decode_gray(stored), gray_of(upright))


def exif_of(size: int, orientation: int = 6) -> bytes:
    """Exif data of `size` bytes with only an orientation; 6 asks for a turn by 270 degrees."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes().ljust(size, b"\0")


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
def test_as_much_exif_as_a_photograph_has_is_read(format: str) -> None:
    """With a thumbnail, Exif fills the segment of a JPEG, and may be copied to other formats."""
    stored = draw("abc").convert("RGB")
    turned = np.rot90(gray_of(stored, format), -1)
    assert np.array_equal(gray_of(stored, format, exif=exif_of(65_533)), turned)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("position", [0, 255, 256, 5000])
def test_only_256_exif_tags_are_read(format: str, position: int) -> None:
    """None of their values is parsed: each may claim all data as its value."""
    tags = [struct.pack("<HHII", number, 7, 60_000, 0) for number in range(1000, 6001)]
    tags[position] = struct.pack("<HHII", 0x0112, 3, 1, 6)
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
    assert np.array_equal(read, np.rot90(plain, -1) if position < 256 else plain)
    assert peak < 1 << 20


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_only_the_first_frame_of_an_animation_is_read(format: str) -> None:
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
def test_lossless_encodings_give_the_same_reading(encoding: str, recognizer: Recognizer) -> None:
    """They change neither the text nor, by more than 0.01, a confidence."""
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


def test_each_suffix_and_media_type_names_one_format() -> None:
    for members in ([f.suffixes for f in FORMATS], [f.media_types for f in FORMATS]):
        every = [member for group in members for member in group]
        assert len(set(every)) == len(every) >= len(FORMATS)


# A red and a green of the same luma, which are the same gray.
RED, GREEN = (150, 0, 0), (0, 76, 0)


def test_three_channels_are_red_green_and_blue() -> None:
    """The time axis comes first."""
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
    """Whatever their mode and size, a colour model sees what a gray model sees."""
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
    """The picture is transparent and lies on its side."""
    image = Image.new("RGBA", (6, 4), (255, 0, 0, 255))
    image.putpixel((5, 0), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 270 degrees
    rgb = decode_rgb(encode(image, exif=exif))
    assert rgb.shape == (6, 4, 3)
    assert rgb[5, 3].tolist() == [1, 1, 1]
    assert rgb[0, 0].tolist() == [1, 0, 0]


def on_transparent(colour: tuple[int, int, int], shown: float = 0.2) -> bytes:
    """A bar of `colour` over the fraction `shown` of a transparent background."""
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
def test_a_transparent_background_contrasts_with_the_text(
    colour: tuple[int, int, int], ground: int, channels: int
) -> None:
    """Light text is put on black, and other text on white."""
    tensor = preprocess(on_transparent(colour), 100, 10, channels)
    assert tensor[60, 5] == pytest.approx([ground] * channels)
    assert np.abs(tensor[5, 5] - tensor[60, 5]).max() > 0.4


def test_white_paper_with_transparent_corners_is_put_on_white() -> None:
    """Where most of the picture is opaque, its own paper is the background."""
    tensor = preprocess(on_transparent((255, 255, 255), shown=0.9), 100, 10)
    assert tensor.min() == 1


def bmp_with_palette(rows: Sequence[bytes], width: int, bits: int, palette: bytes) -> bytes:
    """A BMP of padded rows, the lowest first, and of a palette of four bytes for each colour."""
    pixels = b"".join(rows)
    colours = len(palette) // 4
    size = 40, width, len(rows), 1, bits
    info = struct.pack("<IiiHHIIiiII", *size, 0, len(pixels), 0, 0, colours, 0)
    begin = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<III", begin + len(pixels), 0, begin) + info + palette + pixels


@pytest.mark.parametrize(
    ("bits", "row"), [(1, b"\x60\0\0\0"), (4, b"\x01\x10\0\0"), (8, b"\0\1\1\0")]
)
def test_a_bmp_of_two_colours_may_have_any_bits_per_pixel(bits: int, row: bytes) -> None:
    """Pillow would always read one bit per pixel."""
    data = bmp_with_palette([row, bytes(4)], 4, bits, bytes(4) + b"\xff\xff\xff\0")
    assert decode_gray(data).tolist() == [[0, 0, 0, 0], [0, 1, 1, 0]]


def bmp_with_alpha(pixels: bytes, width: int, height: int) -> bytes:
    """A BMP of 32-bit pixels, blue first, whose header (BITMAPV4HEADER) has an alpha mask."""
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    head = (info + masks).ljust(108, b"\0")
    return b"BM" + struct.pack("<III", 14 + 108 + len(pixels), 0, 14 + 108) + head + pixels


def test_a_bmp_without_any_alpha_is_opaque() -> None:
    """Many programs leave the fourth byte of a pixel at zero."""
    assert decode_gray(bmp_with_alpha(bytes(4 * 6), 3, 2)).max() == 0


def test_a_bmp_with_alpha_is_composited() -> None:
    """One opaque pixel is enough for alpha to count."""
    pixels = bytes(3) + b"\xff" + bytes(4 * 5)
    assert decode_gray(bmp_with_alpha(pixels, 3, 2)).sum() == pytest.approx(5)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_region_is_cut_from_the_upright_picture(orientation: int, channels: int) -> None:
    """It gives the same tensor as a picture of this part alone."""
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
def test_a_region_outside_the_picture_is_refused(region: tuple[int, int, int, int]) -> None:
    """The error names the region and the size of the picture."""
    expected = f"{','.join(map(str, region))} was given; .* has 60×40 pixels"
    with pytest.raises(RegionError, match=expected):
        to_model_input(encode(Image.new("L", (60, 40))), 20, 10, region=Region(*region))
