import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from service.ocr.exceptions import PictureTooLargeError, UndecodableError
from service.ocr.formats.png import SIGNATURE, check
from service.ocr.preprocessing import decode_gray
from tests.pngs import behind_header, chunk, header
from tests.stripes import draw, encode, picture


def without_metadata(data: bytes) -> bytes:
    """The bytes that are passed to the decoder."""
    return check(data)[0]


def chunk_types(png: bytes) -> Sequence[bytes]:
    found, position = [], len(SIGNATURE)
    while position < len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        found.append(kind)
        position += 12 + length
    return found


def test_a_png_without_metadata_is_not_copied() -> None:
    png = picture("ab")
    assert without_metadata(png) is png


def test_metadata_are_removed() -> None:
    """Profiles, texts and unknown chunks are removed. The pixels stay the same."""
    bomb = zlib.compress(bytes(1 << 20))
    png = behind_header(
        chunk(b"iCCP", b"p\0\0" + bomb), chunk(b"zTXt", b"k\0\0" + bomb), chunk(b"vpAg", bytes(9))
    )
    clean = without_metadata(png)
    assert set(chunk_types(clean)) == {b"IHDR", b"IDAT", b"IEND"}
    assert np.array_equal(decode_gray(png), decode_gray(picture("ab")))


def inverted(image: Image.Image) -> Image.Image:
    """The picture with a palette from white to black."""
    indexed = Image.eval(image, lambda level: 255 - level)
    indexed.putpalette([level for level in range(255, -1, -1) for _ in range(3)])
    return indexed


@pytest.mark.parametrize(
    ("image", "black"),
    [(inverted(draw("ab")), 255), (draw("ab"), 0), (draw("ab").convert("RGB"), (0, 0, 0))],
    ids=["P", "L", "RGB"],
)
def test_chunks_that_affect_the_pixels_are_kept(image: Image.Image, black: object) -> None:
    """Palettes, transparency and orientation are not metadata, although a text is."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    kept = encode(image, exif=exif, transparency=black)
    clean = without_metadata(behind_header(chunk(b"tEXt", b"a\0b"), png=kept))
    assert clean == kept
    expected = np.rot90(decode_gray(picture(" b")), -1)
    assert np.array_equal(decode_gray(clean), expected)


def test_data_after_the_end_are_removed() -> None:
    """A file that is hidden after the picture reaches no decoder."""
    png = picture("ab")
    assert without_metadata(png + b"PK\x03\x04 and so on") == png


@pytest.mark.parametrize(
    "chunks",
    [[chunk(b"teSt")] * 100, [chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(9)))] * 200],
    ids=["tiny", "profiles"],
)
def test_too_many_chunks_are_refused(chunks: list[bytes]) -> None:
    """The error says how many are allowed."""
    with pytest.raises(UndecodableError, match="at most 64"):
        without_metadata(behind_header(*chunks))


def test_too_many_pixel_chunks_are_refused() -> None:
    """The decoder takes as long for an empty IDAT as for any other chunk."""
    with pytest.raises(UndecodableError, match="too many chunks"):
        without_metadata(behind_header(*[chunk(b"IDAT")] * 1100))


def test_a_png_that_is_cut_short_is_refused() -> None:
    """It may be cut at any byte after its signature."""
    png = behind_header(chunk(b"tEXt", b"a\0b"))
    for length in range(len(SIGNATURE), len(png)):
        with pytest.raises(UndecodableError):
            without_metadata(png[:length])


def test_the_header_must_come_first() -> None:
    """A PNG begins with an IHDR of the right size."""
    png = picture("ab")
    with pytest.raises(UndecodableError, match="header"):
        without_metadata(SIGNATURE + chunk(b"IDAT") + png[len(SIGNATURE) :])
    with pytest.raises(UndecodableError, match="header"):
        without_metadata(SIGNATURE + chunk(b"IHDR", bytes(14)) + chunk(b"IEND"))


def test_a_second_header_is_refused() -> None:
    """It could be that of a far larger picture, and decoders would believe it."""
    with pytest.raises(UndecodableError, match="header"):
        without_metadata(behind_header(header(1 << 15, 100)))


def test_a_chunk_longer_than_the_file_is_refused() -> None:
    """This chunk claims two gigabytes."""
    head = SIGNATURE + picture("ab")[8:33]
    with pytest.raises(UndecodableError, match="cut short"):
        without_metadata(head + struct.pack(">I4s", 2**31 - 1, b"IDAT") + bytes(100))


PASSES = [
    "16462646",
    "77777777",
    "56565656",
    "77777777",
    "36463646",
    "77777777",
    "56565656",
    "77777777",
]
"""The pass of each pixel, in a square of 8×8 pixels that repeats (section 8.1)."""

SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def white_rows(width: int, height: int, bits: int, passes: Sequence[str]) -> bytes:
    """Uncompressed rows of white pixels of `bits` bits, pass by pass."""
    rows = []
    for number in sorted(set("".join(passes))):
        for y in range(height):
            line = passes[y % len(passes)]
            pixels = sum(line[x % len(line)] == number for x in range(width))
            if pixels:
                rows.append(b"\0" + b"\xff" * -(-pixels * bits // 8))
    return b"".join(rows)


@pytest.mark.parametrize("passes", [["1"], PASSES], ids=["one pass", "seven passes"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (5, 2), (8, 8), (13, 9), (70, 40)])
@pytest.mark.parametrize(
    ("depth", "colour"),
    [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (1, 3), (8, 3), (8, 4), (16, 6)],
)
def test_a_png_that_lacks_one_byte_of_its_rows_is_refused(
    depth: int, colour: int, width: int, height: int, passes: Sequence[str]
) -> None:
    """This holds for every kind of pixel.

    A decoder that leaves missing rows black would read half a picture.
    """
    raw = white_rows(width, height, depth * SAMPLES[colour], passes)
    first = SIGNATURE + header(width, height, depth, colour, int(passes is PASSES))
    first += chunk(b"PLTE", bytes(3 << depth)) if colour == 3 else b""

    def png(rows: bytes) -> bytes:
        stream = zlib.compress(rows)
        pieces = [chunk(b"IDAT", stream[i : i + 9]) for i in range(0, len(stream), 9)]
        return first + b"".join(pieces) + chunk(b"IEND")

    assert decode_gray(png(raw)).shape == (height, width)
    with pytest.raises(UndecodableError, match="cut short"):
        decode_gray(png(raw[:-1]))


@pytest.mark.parametrize("behind", [b"", bytes(9)], ids=["", "data behind the stream"])
@pytest.mark.parametrize(
    ("depth", "colour"),
    [(1, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 3), (8, 4), (16, 4), (8, 6)],
)
@pytest.mark.parametrize("last", [0, 1, 255])
def test_a_large_png_that_lacks_its_last_row_is_refused(
    last: int, depth: int, colour: int, behind: bytes
) -> None:
    """It is refused like a small one, and read with this row, whatever its last pixels are."""
    height, bits = 1000, depth * SAMPLES[colour]
    width = 1000 * 8 // bits
    noise = np.random.default_rng(1).integers(0, 256, (height, 1 + width * bits // 8), np.uint8)
    noise[:, 0] = 0  # no filter
    noise[-1, 1:] = last
    palette = [chunk(b"PLTE", bytes(range(256)) * 3)] if colour == 3 else []

    def png(rows: int) -> bytes:
        stream = zlib.compress(noise[:rows].tobytes(), 1) + behind
        first = SIGNATURE + header(width, height, depth, colour)
        return b"".join([first, *palette, chunk(b"IDAT", stream), chunk(b"IEND")])

    most = 40_000_000
    assert decode_gray(png(height), max_pixels=most).shape == (height, width)
    with pytest.raises(UndecodableError, match="cut short"):
        decode_gray(png(height - 1), max_pixels=most)


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        zlib.compress(bytes(50 * 201))[:-20],
        zlib.compress(bytes(49 * 201)),
        zlib.compress(b"\x09" * 50 * 201),
    ],
    ids=["none", "cut short", "a row too few", "unknown filter"],
)
def test_broken_pixels_are_refused(stream: bytes) -> None:
    """A missing row, or a row with an unknown filter, is an error, not a black row."""
    data = SIGNATURE + header(200, 50) + chunk(b"IDAT", stream) + chunk(b"IEND")
    with pytest.raises(UndecodableError, match="PNG data are broken or cut short"):
        decode_gray(data)


def test_data_behind_a_stream_that_lacks_rows_are_skipped() -> None:
    """Nothing waits for the rows for ever."""
    stream = zlib.compress(bytes(199 * 1001)) + bytes(9)
    data = SIGNATURE + header(1000, 200) + chunk(b"IDAT", stream) + chunk(b"IEND")
    code = """
import sys
from service.ocr.preprocessing import decode_gray
decode_gray(sys.stdin.buffer.read())
"""
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, timeout=60)
    assert b"UndecodableError: The PNG data are broken or cut short" in done.stderr


def test_data_after_the_last_row_are_not_inflated() -> None:
    """Their size does not matter."""
    bomb = zlib.compress(bytes(50 * 201) + bytes(1 << 28))
    data = SIGNATURE + header(200, 50) + chunk(b"IDAT", bomb) + chunk(b"IEND")
    tracemalloc.start()
    assert decode_gray(data).shape == (50, 200)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 21


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_larger_file_allows_fewer_pixels(interlaced: bool) -> None:
    """Its bytes may be deflate blocks without a pixel, which cost more than pixels do."""

    def padded(size: int) -> bytes:
        stream = zlib.compress(bytes(50 * 208))
        data = SIGNATURE + header(200, 50, 8, 0, int(interlaced))
        empty = b"\0\0\0\xff\xff" * (size // 5)
        return data + chunk(b"IDAT", stream[:2] + empty + stream[2:]) + chunk(b"IEND")

    most = 200 * 50 * 2 * (2 if interlaced else 1)
    assert decode_gray(padded(65_000), max_pixels=most).shape == (50, 200)
    with pytest.raises(PictureTooLargeError):
        decode_gray(padded(66_000), max_pixels=most)
    with pytest.raises(PictureTooLargeError):
        decode_gray(padded(500_000))
    assert decode_gray(padded(200_000)).shape == (50, 200)


def animated(*frames: Image.Image, default: Image.Image | None = None) -> bytes:
    """An APNG; the default image, if there is one, is not a frame."""
    first, *rest = (default, *frames) if default else frames
    return encode(
        first, "PNG", save_all=True, append_images=rest, default_image=default is not None
    )


def test_the_first_frame_of_an_animation_is_read() -> None:
    """Browsers show this frame. They never show a default image outside the animation."""
    one, two, other = (draw(text) for text in ("ab", "cd", "dd"))
    expected = decode_gray(encode(one))
    assert np.array_equal(decode_gray(animated(one, two)), expected)
    assert np.array_equal(decode_gray(animated(one, two, default=other)), expected)
    assert np.array_equal(decode_gray(animated(*[one, two] * 40, default=other)), expected)


def test_an_animation_keeps_its_palette_and_transparency() -> None:
    """The frame's pixels are made from them."""
    frames = [inverted(draw(text)) for text in ("ab", "cd", "dd")]
    for frame in frames:
        frame.info["transparency"] = 255  # black
    found = decode_gray(animated(*frames[:2], default=frames[2]))
    assert np.array_equal(found, decode_gray(picture(" b")))


def test_a_frame_that_is_too_large_is_refused() -> None:
    """The pixel limit applies to the frame, whatever the header says."""
    control = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 9000, 9000, 0, 0, 1, 1, 0, 0))
    data = behind_header(chunk(b"acTL", struct.pack(">II", 1, 0)))
    end = data.rindex(b"IEND") - 4
    frame = chunk(b"fdAT", bytes(4) + zlib.compress(bytes(9)))
    with pytest.raises(PictureTooLargeError):
        decode_gray(data[:end] + control + frame + data[end:])


@pytest.mark.parametrize("body", [b"", bytes(8)])
def test_a_frame_control_chunk_of_another_length_is_refused(body: bytes) -> None:
    data = behind_header(chunk(b"acTL", struct.pack(">II", 1, 0)))
    end = data.rindex(b"IEND") - 4
    with pytest.raises(UndecodableError, match="frame"):
        decode_gray(data[:end] + chunk(b"fcTL", body) + data[end:])
