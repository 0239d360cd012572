"""PNGs of every kind, assembled chunk by chunk, and pictures as attackers make them.

Names and layout follow the W3C's Portable Network Graphics specification, third edition.
"""

import io
import itertools
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator

from service.ocr.formats.png import SIGNATURE
from tests.pngs import behind_header, chunk, header
from tests.stripes import draw, encode

DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""The bits per sample that each colour type may have."""

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip
"""The first column, the first row, the column step and the row step of each pass."""


def png(width: int, height: int, depth: int, colour: int, interlaced: bool, *more: bytes) -> bytes:
    """A valid PNG of noise, with the chunks `more` before its pixels."""
    noise = random.Random(depth * 10 + colour)
    bits = depth * _SAMPLES[colour]

    def rows(columns: int, lines: int) -> bytes:
        size = (columns * bits + 7) // 8
        return b"".join(bytes([y % 5]) + noise.randbytes(size) for y in range(lines) if size)

    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    pixels = b"".join(
        rows(-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in passes
    )
    palette = [chunk(b"PLTE", noise.randbytes(3 << depth))] if colour == 3 else []
    return b"".join(
        [SIGNATURE, header(width, height, depth, colour, int(interlaced)), *palette, *more,
         chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND")]
    )  # fmt: skip


def valid() -> Iterator[tuple[str, bytes]]:
    """Valid pictures: every colour type and depth, plain, interlaced, transparent and animated."""
    for colour, depths in DEPTHS.items():
        for depth in depths:
            for interlaced in (False, True):
                name = f"type {colour}, {depth} bits{', interlaced' * interlaced}"
                yield name, png(37, 21, depth, colour, interlaced)
                if colour in (0, 2, 3):
                    key = bytes(2 if colour == 3 else 2 * _SAMPLES[colour])
                    transparent = chunk(b"tRNS", key)
                    yield f"{name}, tRNS", png(37, 21, depth, colour, interlaced, transparent)
    frames = [draw("ab"), draw("cd")]
    for kind in ("PNG", "GIF", "WEBP"):
        yield f"animated {kind}", encode(frames[0], kind, save_all=True, append_images=frames[1:])
    polyglot = io.BytesIO()
    with zipfile.ZipFile(polyglot, "w") as archive:
        archive.writestr("a.txt", "hidden")
    yield "ZIP behind a PNG", encode(draw("ab")) + polyglot.getvalue()


def boundaries(data: bytes) -> list[int]:
    """The offsets of the chunks of a valid PNG, and the offset of its end."""
    found = [len(SIGNATURE)]
    while found[-1] < len(data):
        found.append(found[-1] + 12 + struct.unpack_from(">I", data, found[-1])[0])
    return found


def broken() -> Iterator[tuple[str, bytes]]:
    """PNGs that are cut within and between chunks, or have a wrong checksum.

    The checksums of IDAT and IEND stay right: Pillow does not check that of IDAT, for whose data
    zlib has another checksum, and no decoder checks that of IEND, which is empty.
    """
    for colour in DEPTHS:
        whole = png(37, 21, 8, colour, True)
        limits = boundaries(whole)
        for begin, end in itertools.pairwise(limits):
            kind = whole[begin + 4 : begin + 8].decode()
            for cut in (begin, begin + 6, (begin + end) // 2, end - 1):
                yield f"type {colour}, cut at {cut} in {kind}", whole[:cut]
            if kind not in ("IDAT", "IEND"):
                wrong = whole[: end - 1] + bytes([whole[end - 1] ^ 255]) + whole[end:]
                yield f"type {colour}, wrong CRC of {kind}", wrong


def foreign() -> Iterator[tuple[str, bytes]]:
    """Other formats that claim to be a PNG."""
    for kind in ("TIFF", "EPS", "PDF", "PCX", "ICO", "TGA", "JPEG2000", "ICNS"):
        yield kind, encode(draw("ab").resize((64, 64)), kind)
    yield "PSD", b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 40, 8, 3) + bytes(1000)
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("picture.png", encode(draw("ab")))
    yield "ZIP", archive.getvalue()
    yield "nothing but a signature's first half", SIGNATURE[:4]


def corpus() -> Iterator[tuple[str, str, bytes, frozenset[int]]]:
    """The group, name, file and allowed statuses of each picture."""
    groups = (
        ("valid", valid(), {200}),
        ("broken", broken(), {415, 422}),
        ("foreign", foreign(), {415}),
    )
    for group, members, expected in groups:
        for name, picture in members:
            yield group, name, picture, frozenset(expected)


def of_sides(width: int, height: int) -> bytes:
    """A PNG whose header has these sides, and whose pixels compress to at most 48 kB."""
    rows = zlib.compress(bytes(min((width + 1) * height, 50_000_000)), 9)
    return SIGNATURE + header(width, height) + chunk(b"IDAT", rows) + chunk(b"IEND")


def refused(most_pixels: int, most_side: int) -> Iterator[tuple[str, bytes, int]]:
    """Small files that would be costly to read: name, file, and the status of the refusal."""
    bomb = zlib.compress(bytes(1 << 20), 9)
    endless = 2**31 - 1
    yield "50 megapixels in 48 kB", of_sides(10_000, 5_000), 413
    yield "200 iCCP", behind_header(*[chunk(b"iCCP", b"p\0\0" + bomb)] * 200), 422
    yield "70 zTXt", behind_header(*[chunk(b"zTXt", b"k\0\0" + bomb)] * 70), 422
    yield "1000 tiny chunks", behind_header(*[chunk(b"teSt")] * 1000), 422
    yield "5000 empty IDAT", behind_header(*[chunk(b"IDAT")] * 5000), 422
    for width, height in ((0, 9), (9, 0), (0, 0)):
        yield f"{width} × {height}", of_sides(width, height), 422
    yield "side above the cap", of_sides(most_side + 1, 1), 413
    yield "side above the cap, upright", of_sides(1, most_side + 1), 413
    yield "one row of pixels too many", of_sides(2000, most_pixels // 2000 + 1), 413
    for width, height in ((endless, 1), (1, endless), (endless, endless)):
        yield f"{width} × {height}", of_sides(width, height), 413


def allowed(most_pixels: int, most_side: int) -> Iterator[tuple[str, bytes]]:
    """The smallest and the largest accepted pictures, and one whose metadata are not inflated."""
    bomb = zlib.compress(bytes(1 << 20), 9)
    yield "1 × 1", of_sides(1, 1)
    yield "the widest", of_sides(most_side, 1)
    yield "the highest", of_sides(1, most_side)
    yield "the most pixels", of_sides(2000, most_pixels // 2 // 2000)  # a PNG's pixel costs 2
    yield "60 iCCP", behind_header(*[chunk(b"iCCP", b"p\0\0" + bomb)] * 60)
