"""Pictures of very many pixels."""

import numpy as np
import pytest
from PIL import Image

from service.ocr.preprocessing import decode_gray, preprocess
from tests.stripes import encode

MOST = 20_000_000
"""Pixel limit that allows a PNG of noise, whose bytes count, too."""


def noise(mode: str, width: int, height: int) -> Image.Image:
    """A picture of noise, in which no row equals another."""
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
def test_large_pictures_are_stretched_like_small_ones(mode: str, size: tuple[int, int]) -> None:
    """Averaging them over blocks first hardly changes the tensor, even that of noise."""
    data = encode(noise(mode, *size))
    full = decode_gray(data, max_pixels=MOST)
    whole = Image.fromarray(full).resize((200, 50), Image.Resampling.BILINEAR)
    difference = np.abs(preprocess(data, 200, 50, max_pixels=MOST)[:, :, 0] - np.asarray(whole).T)
    assert difference.mean() < 0.02
    assert difference.max() < 0.1
