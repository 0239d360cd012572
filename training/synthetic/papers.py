"""Papers: the backgrounds behind the characters, in colour."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training.synthetic.sampling import Random

Colour = tuple[int, int, int]
Paper = Callable[[int, int, Colour, float, Random], Image.Image]
"""Takes width, height, colour, contrast and generator, and returns an RGB picture. The contrast is
the greatest distance of the paper from its colour; 1 is the distance from black to white."""


def shifted(colour: Colour, by: float, rng: Random) -> Colour:
    """A colour near another: each channel moves by up to `by`, all channels mostly together."""
    along = rng.random() * 2 - 1
    r, g, b = ((0.7 * along + 0.3 * (rng.random() * 2 - 1)) * by for _ in range(3))
    return (
        min(255, max(0, round(colour[0] + r))),
        min(255, max(0, round(colour[1] + g))),
        min(255, max(0, round(colour[2] + b))),
    )


def _scaled(
    colours: NDArray[np.floating[Any]], width: int, height: int, method: Image.Resampling
) -> Image.Image:
    """A few colours `(rows, columns, 3)`, 0 to 255, spread over a picture."""
    image = Image.fromarray(colours.clip(0, 255).astype(np.uint8))
    return image.resize((width, height), method)


def _plain(width: int, height: int, colour: Colour, contrast: float, rng: Random) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def _gradient(width: int, height: int, colour: Colour, contrast: float, rng: Random) -> Image.Image:
    other = np.array(shifted(colour, 255 * contrast, rng))
    along = np.array([[0.0, 0.5], [0.5, 1.0]]) if rng.random() < 0.4 else np.array([[0.0, 1.0]] * 2)
    if rng.random() < 0.3:
        along = along.T
    if rng.random() < 0.5:
        along = 1 - along
    corners = np.array(colour) * (1 - along[:, :, np.newaxis]) + other * along[:, :, np.newaxis]
    return _scaled(corners, width, height, Image.Resampling.BILINEAR)


def _clouds(width: int, height: int, colour: Colour, contrast: float, rng: Random) -> Image.Image:
    """Smooth spots in colours near the paper's."""
    rows = int(rng.integers(2, 8))
    columns = int(rng.integers(2, 20))
    gray = rng.random() < 0.4
    spots = rng.random((rows, columns, 1 if gray else 3)) * 2 - 1
    around = np.array(colour) + spots * 200 * contrast
    return _scaled(around, width, height, Image.Resampling.BICUBIC)


def _grain(width: int, height: int, colour: Colour, contrast: float, rng: Random) -> Image.Image:
    """Coarse noise, like rough paper or cloth."""
    cell_x, cell_y = 1 + 3 * rng.random(), 1 + 2 * rng.random()
    size = max(1, round(width / cell_x)), max(1, round(height / cell_y))
    gray = rng.random() < 0.6
    around = np.array(colour, np.float32) + grain(*size, gray, rng) * np.float32(1.5 * contrast)
    return _scaled(around, width, height, Image.Resampling.BILINEAR)


def _photo(width: int, height: int, colour: Colour, contrast: float, rng: Random) -> Image.Image:
    """Surfaces under uneven light."""
    image = _clouds(width, height, colour, contrast * 0.6, rng)
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 7))):
        x, y = rng.random() * width, rng.random() * height
        box = (x - 0.4 * width * rng.random(), y - 0.6 * height * rng.random(),
               x + 0.4 * width * rng.random(), y + 0.6 * height * rng.random())  # fmt: skip
        fill = shifted(colour, 200 * contrast, rng)
        if rng.random() < 0.5:
            pen.ellipse(box, fill=fill)
        else:
            pen.polygon((box[0], box[3], box[2], y, x, box[1], x, box[3]), fill=fill)
    around = np.asarray(image, np.int16) + (
        grain(width, height, True, rng) * (0.4 * contrast)
    ).astype(np.int16)
    return Image.fromarray(around.clip(0, 255).astype(np.uint8))


def _stripes(width: int, height: int, colour: Colour, contrast: float, rng: Random) -> Image.Image:
    image = Image.new("RGB", (width, height), colour)
    pen = ImageDraw.Draw(image)
    other = shifted(colour, 200 * contrast, rng)
    step, thick = 3 + 12 * rng.random(), 1 + int(4 * rng.random())
    lean = (rng.random() - 0.5) * 2 * height
    if rng.random() < 0.3:
        for y in np.arange(0, height, step):
            pen.line((0, y, width, y + lean / 8), fill=other, width=thick)
    else:
        for x in np.arange(-height, width + height, step):
            pen.line((x, 0, x + lean, height), fill=other, width=thick)
    return image


def _tiles(width: int, height: int, colour: Colour, contrast: float, rng: Random) -> Image.Image:
    """Rectangles, each in a colour near the paper's."""
    rows, columns = int(rng.integers(1, 7)), int(rng.integers(2, 20))
    spots = rng.random((rows, columns, 3 if rng.random() < 0.6 else 1)) * 2 - 1
    around = np.array(colour) + spots * 180 * contrast
    return _scaled(around, width, height, Image.Resampling.NEAREST)


def _blots(width: int, height: int, colour: Colour, contrast: float, rng: Random) -> Image.Image:
    """Discs or rings in colours near the paper's."""
    image = Image.new("RGB", (width, height), colour)
    pen = ImageDraw.Draw(image)
    hollow = rng.random() < 0.4
    for _ in range(int(rng.integers(3, 30))):
        x, y = rng.random() * width, rng.random() * height
        radius = height * (0.03 + 0.4 * rng.random() ** 2)
        box = (x - radius, y - radius, x + radius, y + radius)
        fill = shifted(colour, 200 * contrast, rng)
        if hollow:
            pen.ellipse(box, outline=fill, width=1 + int(2 * rng.random()))
        else:
            pen.ellipse(box, fill=fill)
    return image


def _panel(width: int, height: int, colour: Colour, contrast: float, rng: Random) -> Image.Image:
    """A plain surface with a frame."""
    image = Image.new("RGB", (width, height), colour)
    pen = ImageDraw.Draw(image)
    edge = 1 + int(0.08 * height * rng.random())
    other = shifted(colour, 255 * max(0.3, contrast), rng)
    pen.rectangle((0, 0, width - 1, height - 1), outline=other, width=edge)
    return image


PAPERS: dict[str, Paper] = {
    "plain": _plain,
    "gradient": _gradient,
    "clouds": _clouds,
    "grain": _grain,
    "photo": _photo,
    "stripes": _stripes,
    "tiles": _tiles,
    "blots": _blots,
    "panel": _panel,
}


def grain(width: int, height: int, gray: bool, rng: Random) -> NDArray[np.float32]:
    """Gaussian noise of standard deviation 64, float32 `(height, width, 1 or 3)`.

    Cut from a sheet of noise that is made once: new noise would take longer than a picture.
    """
    sheet = _sheet(1 if gray else 3)
    height_left, width_left = sheet.shape[0] - height, sheet.shape[1] - width
    if height_left < 0 or width_left < 0:
        return (rng.standard_normal((height, width, sheet.shape[2]), np.float32)) * 64
    y, x = int(rng.random() * height_left), int(rng.random() * width_left)
    return sheet[y : y + height, x : x + width]


@functools.cache
def _sheet(channels: int) -> NDArray[np.float32]:
    sheet = np.random.default_rng(channels).standard_normal((512, 1024, channels), np.float32)
    return sheet * np.float32(64)
