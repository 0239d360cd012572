"""Mutants of PNGs that respect the structure of a PNG. Equal seeds give equal mutants.

A mutant with random bytes would seldom pass the first checksum. These mutants keep most of a
picture valid, including checksums. They change what a decoder relies on: fields of the header;
sizes, kinds and order of chunks; filters and pixels inside the compressed data.
"""

import itertools
import struct
import zlib
from collections.abc import Callable
from random import Random

from service.ocr.formats.png import SIGNATURE
from tests.hostile.pictures import boundaries, valid
from tests.pngs import chunk

Chunks = list[tuple[bytes, bytes]]
"""The kind and the body of each chunk."""

KINDS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"iCCP", b"zTXt", b"iTXt", b"tEXt",
         b"acTL", b"fcTL", b"fdAT", b"gAMA", b"cHRM", b"sBIT", b"pHYs", b"IDA\xff")  # fmt: skip
SIDES = (0, 1, 2, 7, 255, 16_384, 16_385, 2**31 - 1, 2**31, 2**32 - 1)


def parsed(png: bytes) -> Chunks:
    """The chunks of a valid PNG."""
    limits = boundaries(png)
    return [
        (png[begin + 4 : begin + 8], png[begin + 8 : end - 4])
        for begin, end in itertools.pairwise(limits)
    ]


def _flip(random: Random, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(random.randint(1, 4)):
        changed[random.randrange(len(changed))] = random.choice((0, 1, 127, 128, 255, 7))
    return bytes(changed)


def _change_header(random: Random, chunks: Chunks) -> None:
    kind, body = chunks[0]
    width, height, *rest = struct.unpack(">IIBBBBB", body.ljust(13, b"\0")[:13])
    match random.randrange(4):
        case 0:
            width = random.choice(SIDES)
        case 1:
            height = random.choice(SIDES)
        case _:
            rest[random.randrange(5)] = random.choice((0, 1, 2, 3, 4, 5, 6, 8, 16, 32, 255))
    chunks[0] = kind, struct.pack(">IIBBBBB", width, height, *rest)


def _change_pixels(random: Random, chunks: Chunks) -> None:
    """Compresses other rows validly: more rows, fewer rows, or rows with wrong filters."""
    places = [i for i, (kind, _) in enumerate(chunks) if kind == b"IDAT"]
    if not places:
        return
    try:
        rows = zlib.decompress(chunks[places[0]][1])
    except zlib.error:
        return
    rows = random.choice((_flip(random, rows), rows[: len(rows) // 2], rows * 3, b""))
    chunks[places[0]] = b"IDAT", zlib.compress(rows, random.randrange(10))


def _change_body(random: Random, chunks: Chunks) -> None:
    place = random.randrange(len(chunks))
    kind, body = chunks[place]
    cut = random.randrange(len(body) + 1)
    chunks[place] = kind, random.choice((_flip(random, body), body[:cut], body + body[:cut]))


def _insert(random: Random, chunks: Chunks) -> None:
    kind = random.choice(KINDS)
    body = random.randbytes(random.choice((0, 1, 4, 8, 13, 26, 200)))
    if kind in (b"iCCP", b"zTXt"):
        body = b"k\0\0" + zlib.compress(body * 100)
    chunks.insert(random.randrange(len(chunks) + 1), (kind, body))


def _rename(random: Random, chunks: Chunks) -> None:
    place = random.randrange(len(chunks))
    chunks[place] = random.choice(KINDS), chunks[place][1]


def _reorder(random: Random, chunks: Chunks) -> None:
    one, other = random.randrange(len(chunks)), random.randrange(len(chunks))
    chunks[one], chunks[other] = chunks[other], chunks[one]


def _repeat(random: Random, chunks: Chunks) -> None:
    place = random.randrange(len(chunks))
    chunks[place:place] = [chunks[place]] * random.choice((1, 2, 70))


def _drop(random: Random, chunks: Chunks) -> None:
    if len(chunks) > 1:
        del chunks[random.randrange(len(chunks))]


def _split(random: Random, chunks: Chunks) -> None:
    place = random.randrange(len(chunks))
    kind, body = chunks[place]
    cut = random.randrange(len(body) + 1)
    chunks[place : place + 1] = [(kind, body[:cut]), (kind, body[cut:])]


_MUTATIONS: tuple[Callable[[Random, Chunks], None], ...] = (
    _change_header, _change_pixels, _change_body, _insert, _rename, _reorder, _repeat, _drop, _split
)  # fmt: skip


class Mutator:
    """Makes mutants.

    Args:
        seed: the same seed gives the same mutants.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._parents = [parsed(png) for name, png in valid() if png.endswith(chunk(b"IEND"))
                         and png.startswith(SIGNATURE) and "ZIP" not in name]  # fmt: skip

    def mutant(self, number: int) -> bytes:
        """The mutant with this number, whichever mutants were made before."""
        random = Random(f"{self._seed}/{number}")
        chunks = list(random.choice(self._parents))
        if random.random() < 0.1:  # a splice of two pictures
            other = random.choice(self._parents)
            chunks[1:] = other[1:]
        for _ in range(random.randint(1, 3)):
            random.choice(_MUTATIONS)(random, chunks)
        data = SIGNATURE + b"".join(chunk(kind, body) for kind, body in chunks)
        # A few mutants are also cut or changed at random places.
        damage = random.random()
        if damage < 0.03:
            return data[: random.randrange(len(data))]
        return SIGNATURE + _flip(random, data[len(SIGNATURE) :]) if damage < 0.08 else data
