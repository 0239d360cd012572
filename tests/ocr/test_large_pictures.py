"""Pictures of very many pixels, and the memory that they take."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from service.ocr.preprocessing import decode_gray, preprocess
from tests.stripes import encode


def noise(mode: str, width: int, height: int) -> Image.Image:
    """A picture in which no row is like another."""
    samples = np.random.default_rng(1).integers(0, 256, (height, width, 4), np.uint8)
    if mode == "I;16":
        return Image.fromarray(samples.view(np.uint16)[:, :, 0].copy())
    if mode == "P":
        image = Image.fromarray(samples[:, :, :3]).quantize(256)
        image.info["transparency"] = 3
        return image
    return Image.fromarray(samples).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(700, 300), (9, 12_000), (12_000, 9), (200, 1500)], ids=str)
def test_bands_give_what_the_whole_gives(mode: str, size: tuple[int, int]) -> None:
    """A large picture, which is taken band by band, gives the tensor of its whole."""
    data = encode(noise(mode, *size))
    whole = Image.fromarray(decode_gray(data)).resize((200, 50), Image.Resampling.BILINEAR)
    # Pillow may stretch columns before rows, which is a matter of the last bit.
    assert np.abs(preprocess(data, 200, 50)[:, :, 0] - np.asarray(whole).T).max() < 1e-6


def test_half_transparent_only_below() -> None:
    """Whether a picture is transparent is a matter of the whole, not of a band."""
    image = noise("RGB", 1000, 500).convert("RGBA")
    image.putpixel((3, 499), (0, 0, 0, 0))
    luma = np.asarray(image.convert("LA"), np.float32) / np.float32(255)
    expected = Image.fromarray(1 - luma[:, :, 1] * (1 - luma[:, :, 0]))
    stretched = np.asarray(expected.resize((200, 50), Image.Resampling.BILINEAR))
    assert np.abs(preprocess(encode(image), 200, 50)[:, :, 0].T - stretched).max() < 1e-6


@pytest.mark.parametrize(
    "size", [(2000, 2000), (240, 16_384), (16_384, 240), (37, 16_384)], ids=str
)
@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_arrays_are_small(mode: str, size: tuple[int, int]) -> None:
    """Of four megapixels no array is made that has all of them, be they transparent or not.

    Nor of a picture that is stretched to many times its width, before its height shrinks.
    """
    data = encode(Image.new(mode, size))
    preprocess(data, 200, 50, max_pixels=9_000_000)
    tracemalloc.start()
    preprocess(data, 200, 50, max_pixels=9_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000
