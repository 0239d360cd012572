"""Makes the largest accepted pictures of every kind, which cost the most to read.

`make bench-formats` measures their CPU time, and a test measures their memory.
"""

import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from service.ocr.formats import sniff
from service.ocr.formats.png import SIGNATURE

MAX_BYTES = 1 << 20
"""The default of OCR_MAX_UPLOAD_BYTES."""

SMOOTH = -1
"""The amplitude that stands for blurred noise."""

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip
_PAETH = b"\4"
_EMPTY_BLOCKS = bytes.fromhex("04c0810800000000207feb47001c880000000000f2b77e")
"""Two deflate blocks that contain only their Huffman codes, and no data (RFC 1951, 3.2.7)."""

_CHUNK_HEAD = struct.Struct(">I4s")
_PNG_HEADER = struct.Struct(">IIBBBBB")
_BMP_HEADER = struct.Struct("<IiiHHIIiiII")

Encode = Callable[[int, int, int], bytes]
"""Makes a picture from width, height and amplitude: the range of its samples, or SMOOTH."""


def _noise(width: int, height: int, samples: int, amplitude: int) -> np.ndarray:
    """Samples `(height, width, samples)`: equal with an amplitude of 0, blurred with SMOOTH."""
    shape = (height, width, samples)
    if amplitude == 0:
        return np.full(shape, 90, np.uint8)
    if amplitude == SMOOTH:
        coarse = (max(2, height // 3), max(2, width // 3), samples)
        planes = np.random.default_rng(1).integers(0, 256, coarse, np.uint8)
        resized = [
            Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC)
            for plane in np.moveaxis(planes, -1, 0)
        ]
        return np.stack([np.asarray(plane) for plane in resized], axis=-1)
    noise = np.random.default_rng(1).integers(0, amplitude + 1, shape, np.uint8)
    return noise + np.uint8(min(90, 255 - amplitude))


def _chunk(kind: bytes, body: bytes = b"") -> bytes:
    return _CHUNK_HEAD.pack(len(body), kind) + body + zlib.crc32(kind + body).to_bytes(4)


def _png(
    depth: int, colour: int, interlaced: bool, transparent: bool, blocks: bytes = b""
) -> Encode:
    """A PNG; `blocks` are deflate blocks to put before those of the pixels."""
    bits = depth * _SAMPLES[colour]

    def encode(width: int, height: int, amplitude: int) -> bytes:
        rows = []
        for left, top, right, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
            columns, lines = math.ceil((width - left) / right), math.ceil((height - top) / down)
            size = math.ceil(columns * bits / 8)
            body = _noise(size, lines, 1, amplitude)[:, :, 0]
            rows += [_PAETH + line.tobytes() for line in body]
        header = _PNG_HEADER.pack(width, height, depth, colour, 0, 0, interlaced)
        palette = _chunk(b"PLTE", bytes(range(256)) * 3) if colour == 3 and depth == 8 else b""
        stream = zlib.compress(b"".join(rows), 1)
        key = _chunk(b"tRNS", bytes(256 if colour == 3 else 2 * _SAMPLES[colour]))
        return b"".join(
            [SIGNATURE, _chunk(b"IHDR", header), palette,
             key if transparent else b"", _chunk(b"IDAT", stream[:2] + blocks + stream[2:]),
             _chunk(b"IEND")]
        )  # fmt: skip

    return encode


def _pillow(name: str, mode: str, **options: object) -> Encode:
    def encode(width: int, height: int, amplitude: int) -> bytes:
        samples = _noise(width, height, len(Image.new(mode, (1, 1)).getbands()), amplitude)
        image = Image.fromarray(samples.squeeze(2) if samples.shape[2] == 1 else samples, mode)
        if mode == "P":
            image.putpalette(bytes(range(256)) * 3)
        file = io.BytesIO()
        image.save(file, name, **options)
        return file.getvalue()

    return encode


def _scans(mode: str, scans: int) -> Encode:
    """A progressive JPEG that repeats its last scan."""
    encode = _pillow("JPEG", mode, quality=50, progressive=True)

    def repeated(width: int, height: int, amplitude: int) -> bytes:
        data = encode(width, height, amplitude)
        last = data[data.rindex(b"\xff\xda") : -2]
        return data[:-2] + last * (scans - data.count(b"\xff\xda")) + data[-2:]

    return repeated


def _bmp(bits: int) -> Encode:
    def encode(width: int, height: int, amplitude: int) -> bytes:
        palette = bytes(4 << bits) if bits <= 8 else b""
        row = math.ceil(width * bits / 32) * 4
        at = 14 + _BMP_HEADER.size + len(palette)
        head = _BMP_HEADER.pack(40, width, height, 1, bits, 0, row * height, 0, 0, 0, 0)
        pixels = _noise(row, height, 1, amplitude).tobytes()
        return b"BM" + struct.pack("<III", at + len(pixels), 0, at) + head + palette + pixels

    return encode


def prefix_codes(width: int, height: int, unused: int = 0) -> bytes:
    """A lossless WebP with other prefix codes for every tile of four by four pixels (RFC 9649).

    Args:
        unused: additional groups of prefix codes that no tile uses.
    """
    tiles = math.ceil(width / 4) * math.ceil(height / 4)
    bits: list[str] = []

    def put(value: int, size: int) -> None:
        bits.append(f"{value:0{size}b}"[::-1])

    def put_eight_bits(symbols: int) -> None:
        """A prefix code with 8 bits for each of 256 symbols; it leaves out all others."""
        put(8 << 1, 5)
        for symbol in (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8):
            put(symbol in (8, 18), 3)
        put(0, 1 + 256)
        if symbols > 256:
            put(symbols - 256 - 11 << 1 | 1, 8)

    only_zero = "1000"
    put(0x2F, 8)
    put(width - 1, 14)
    put(height - 1, 14)
    put(0, 1 + 3 + 1 + 1)  # no alpha, version, no transform, no colour cache
    put(1, 1 + 3)  # tiles of four by four
    put(0, 1)
    put_eight_bits(280)
    put_eight_bits(256)
    bits += [only_zero] * 3
    last = tiles + unused - 1
    bits += [f"{number & 255:08b}{number >> 8:08b}" for number in (*range(tiles - 1), last)]
    bits += [only_zero] * 5 * (last + 1)
    text = "".join(bits)
    text = text.ljust(math.ceil(len(text) / 16) * 16, "0")
    data = int(text[::-1], 2).to_bytes(len(text) // 8, "little")
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def _small_frame(name: str) -> Encode:
    """An animation of tiny frames on a large canvas."""

    def encode(width: int, height: int, amplitude: int) -> bytes:
        first = Image.new("RGBA", (width, height), (0, 0, 0, 0))
        second = first.copy()
        second.putpixel((3, 3), (255, 0, 0, 255))
        file = io.BytesIO()
        options = {"lossless": True} if name == "WEBP" else {}
        first.save(file, name, save_all=True, append_images=[second, first], **options)
        return file.getvalue()

    return encode


def kinds() -> dict[str, Encode]:
    """Encoders for every kind of picture, by name."""
    found: dict[str, Encode] = {}
    for colour, depths in {0: (1, 8, 16), 2: (8, 16), 3: (8,), 4: (8, 16), 6: (8, 16)}.items():
        for depth in depths:
            name = f"PNG type {colour}, {depth} bits"
            found[name] = _png(depth, colour, False, False)
            found[f"{name}, interlaced"] = _png(depth, colour, True, False)
            if colour in (0, 2, 3):
                found[f"{name}, tRNS"] = _png(depth, colour, False, True)
    for interlaced, size in ((False, 450_000), (True, 250_000)):
        blocks = _EMPTY_BLOCKS * (size // len(_EMPTY_BLOCKS))
        found[f"PNG of empty blocks{', interlaced' * interlaced}"] = _png(
            8, 0, interlaced, False, blocks
        )
    for mode in ("L", "RGB", "CMYK"):
        found[f"JPEG {mode}"] = _pillow("JPEG", mode, quality=50)
        found[f"JPEG {mode}, progressive"] = _pillow("JPEG", mode, quality=50, progressive=True)
        found[f"JPEG {mode}, 64 scans"] = _scans(mode, 64)
    for quality in (90, 100):
        found[f"JPEG RGB, quality {quality}"] = _pillow("JPEG", "RGB", quality=quality)
    found["JPEG RGB 4:4:4"] = _pillow("JPEG", "RGB", quality=90, subsampling=0)
    for mode in ("RGB", "RGBA"):
        for quality in (60, 100):
            found[f"WEBP {mode}, quality {quality}"] = _pillow("WEBP", mode, quality=quality)
        found[f"WEBP {mode}, lossless"] = _pillow(
            "WEBP", mode, lossless=True, quality=0, method=0, exact=True
        )
    found["WEBP of prefix codes"] = lambda width, height, _: prefix_codes(width, height)
    found["WEBP animation"] = _small_frame("WEBP")
    for bits in (1, 4, 8, 24, 32):
        found[f"BMP {bits} bits"] = _bmp(bits)
    found["GIF"] = _pillow("GIF", "P", interlace=0)
    found["GIF, interlaced"] = _pillow("GIF", "P", interlace=1)
    found["GIF, transparent"] = _pillow("GIF", "P", transparency=90)
    found["GIF animation"] = _small_frame("GIF")
    return found


def costliest(encode: Encode, max_pixels: int, amplitudes: tuple[int, ...]) -> Iterator[bytes]:
    """The largest accepted pictures of a kind, one for each amplitude.

    A picture has fewer pixels than allowed if it would have more than `MAX_BYTES`, or if its bytes
    count as pixels, too.
    """
    for amplitude in amplitudes:
        small = encode(64, 64, amplitude)
        known = sniff(small)
        assert known is not None
        pixels = int(max_pixels / known.check(small)[1])
        while True:
            side = math.isqrt(pixels)
            data = encode(side, side, amplitude)
            if len(data) <= MAX_BYTES and side * side * known.check(data)[1] <= max_pixels:
                break
            pixels = int(0.9 * pixels)
        yield data
