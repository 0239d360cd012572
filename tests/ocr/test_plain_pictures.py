"""PNGs that are decoded without Pillow looking for their pixels: what it would find is the same."""

import zlib
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from service.ocr import preprocessing
from service.ocr.exceptions import PictureError
from service.ocr.formats.png import SIGNATURE, plain_pixels, without_metadata
from service.ocr.preprocessing import decode_gray
from tests.hostile.mutation import Mutator
from tests.pngs import behind_header, chunk, header
from tests.stripes import draw, encode, picture

MODES = ("L", "LA", "RGB", "RGBA")


def noise(mode: str, height: int = 30) -> Image.Image:
    """Such that an encoder takes turns with its filters."""
    random = np.random.default_rng(5)
    ramp = np.linspace(0, 200, 40 * height).reshape(height, 40, 1)
    samples = ramp + random.integers(0, 55, (height, 40, len(mode)))
    return Image.fromarray(samples.astype(np.uint8).squeeze(), mode)


@pytest.fixture
def pillow(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], np.ndarray]:
    """`decode_gray` where nothing is plain."""

    def decoded(data: bytes) -> np.ndarray:
        with monkeypatch.context() as patch:
            patch.setattr(preprocessing, "plain_pixels", lambda data: None)
            return decode_gray(data)

    return decoded


@pytest.mark.parametrize("mode", MODES)
def test_they_show_the_same(mode: str, pillow: Callable[[bytes], np.ndarray]) -> None:
    """Whatever their colours, and however their pixels are cut up."""
    whole = encode(noise(mode))
    pixels = plain_pixels(whole)
    assert pixels is not None
    assert pixels[:2] == (mode, (40, 30))
    pieces = [chunk(b"IDAT", pixels.stream[i : i + 99]) for i in range(0, len(pixels.stream), 99)]
    first = whole[: len(SIGNATURE) + len(header(1, 1))]
    for data in (whole, first + b"".join([*pieces, chunk(b"IDAT"), chunk(b"IEND")])):
        assert plain_pixels(data) == pixels
        assert np.array_equal(decode_gray(data), pillow(data))


def test_metadata_do_not_matter() -> None:
    """They have gone by then."""
    labelled = behind_header(chunk(b"tEXt", b"a\0b"), chunk(b"gAMA", bytes(4)))
    assert plain_pixels(without_metadata(labelled)) == plain_pixels(picture("ab"))


def not_plain() -> dict[str, bytes]:
    sound = picture("ab")
    pixels = sound[len(SIGNATURE) + len(header(1, 1)) :]
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "palette": encode(draw("ab").convert("P")),
        "one bit": encode(draw("ab").convert("1")),
        "sixteen bits": encode(Image.fromarray(np.zeros((2, 3), np.uint16))),
        "transparent colour": encode(draw("ab"), transparency=7),
        "orientation": encode(draw("ab"), exif=turned),
        "passes": SIGNATURE + header(200, 50, interlace=1) + pixels,
        "large": encode(noise("RGB", height=400)),
        "checksum": SIGNATURE + header(200, 50)[:-1] + b"?" + pixels,
    }


@pytest.mark.parametrize("kind", not_plain())
def test_of_others_pillow_knows_more(kind: str) -> None:
    """What another chunk changes, what comes in passes, and what is broken."""
    assert plain_pixels(picture("ab")) is not None
    assert plain_pixels(not_plain()[kind]) is None


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
def test_broken_ones_are_refused(stream: bytes) -> None:
    """As those of any other kind are."""
    data = SIGNATURE + header(200, 50) + chunk(b"IDAT", stream) + chunk(b"IEND")
    assert plain_pixels(data) is not None
    with pytest.raises(PictureError, match="PNG data are broken or cut short"):
        decode_gray(data)


def test_mutants_show_the_same(pillow: Callable[[bytes], np.ndarray]) -> None:
    """What is accepted of pictures that are nearly right, and what is read in them."""
    mutants = Mutator(9)
    outcomes: Counter[str] = Counter()
    for number in range(3000):
        mutant = mutants.mutant(number)
        try:
            expected = pillow(mutant)
        except PictureError:
            outcomes["refused"] += 1
            with pytest.raises(PictureError):
                decode_gray(mutant)
        else:
            outcomes["read"] += 1
            assert np.array_equal(decode_gray(mutant), expected)
    assert min(outcomes["read"], outcomes["refused"]) > 300
