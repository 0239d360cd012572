"""The ink of single characters, and of the curves drawn across them: 0 none, 1 full.

The fonts are the fonts that Matplotlib ships (DejaVu, under the Bitstream Vera licence).
"""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from service.ocr.preprocessing import FloatArray
from training.synthetic.levels import levels_of

FONTS = ("DejaVuSans-Bold", "DejaVuSans", "DejaVuSansMono-Bold", "DejaVuSerif-Bold")
Box = tuple[int, int, int, int]

_OVERSAMPLING = 3
_HEAVY = 0.05
"""Greatest stroke around the outline of a thin font, as a share of its size."""


@functools.cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of Matplotlib's fonts; `size` is in pixels."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf"), size)


def glyph(
    symbol: str,
    name: str,
    size: int,
    stretch: float,
    weight: float,
    frayed: float,
    generator: np.random.Generator,
) -> FloatArray:
    """A character, cropped to its columns, turned a little and maybe frayed.

    Args:
        name: name of the font.
        size: size of the font in pixels.
        stretch: factor of the width.
        weight: 0 to 1, how much a font that is not bold is thickened.
        frayed: chance that the edges are frayed.

    Returns:
        float32 `(2 * size, columns)`; the baseline is the same for all characters of a size.
    """
    canvas = Image.new("L", (3 * size, 2 * size))
    thickness = 0.0 if "Bold" in name else weight * _HEAVY * size
    ImageDraw.Draw(canvas).text(
        (1.5 * size, 1.35 * size), symbol, font=font(name, size), fill=255, anchor="ms",
        stroke_width=thickness,
    )  # fmt: skip
    canvas = canvas.rotate(generator.uniform(-4, 4), Image.Resampling.BICUBIC)
    canvas = canvas.resize((max(1, round(3 * size * stretch)), 2 * size), Image.Resampling.BILINEAR)
    ink = levels_of(canvas)
    if generator.random() < frayed:
        ink = _frayed(ink, generator.uniform(0.015, 0.04) * size, generator)
    columns = np.flatnonzero(ink.max(axis=0) > 0.3)
    if columns.size == 0:  # a space
        return np.zeros((2 * size, max(1, size // 3)), np.float32)
    return ink[:, columns[0] : columns[-1] + 1]


def _frayed(ink: FloatArray, spread: float, generator: np.random.Generator) -> FloatArray:
    """Every pixel takes its ink from a random neighbour; `spread` is the deviation in pixels."""
    offsets = generator.normal(0, spread, (2, *ink.shape)).round().astype(int)
    rows, columns = np.indices(ink.shape) + offsets
    frayed: FloatArray = ink[rows.clip(0, ink.shape[0] - 1), columns.clip(0, ink.shape[1] - 1)]
    return frayed


def stamp(ink: FloatArray, mask: FloatArray, left: int, top: int) -> Box:
    """Adds a character to a picture, cut at its edges; returns the box of the visible ink."""
    height, width = ink.shape
    rows = slice(max(0, top), max(0, min(height, top + mask.shape[0])))
    columns = slice(max(0, left), max(0, min(width, left + mask.shape[1])))
    visible = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    ink[rows, columns] = np.maximum(ink[rows, columns], visible)
    inked = np.flatnonzero(visible.max(axis=1, initial=0) > 0.3)
    if inked.size == 0:
        return columns.start, rows.start, columns.stop, rows.stop
    return columns.start, rows.start + int(inked[0]), columns.stop, rows.start + int(inked[-1]) + 1


def curve(
    width: int,
    height: int,
    across: Sequence[float],
    generator: np.random.Generator,
    between: tuple[float, float] = (0.05, 0.95),
) -> FloatArray:
    """A cubic Bézier curve through random heights that thins out from its first end.

    Args:
        across: places of the four control points, as shares of the width.
        between: range of their heights, as shares of the height of the picture.

    Returns:
        float32 `(height, width)`.
    """
    size = np.array((width, height), float)
    controls = np.column_stack([across, generator.uniform(*between, 4)]) * size
    controls[:, 0] += generator.normal(0, 0.01 * width, 4)
    t = np.linspace(0, 1, 6)[:, np.newaxis]
    basis = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
    points = sum(b * point for b, point in zip(basis, controls, strict=True)) * _OVERSAMPLING
    canvas = Image.new("L", (width * _OVERSAMPLING, height * _OVERSAMPLING))
    pen = ImageDraw.Draw(canvas)
    for number, (start, end) in enumerate(itertools.pairwise(points)):
        thickness = height * (0.07, 0.05, 0.04, 0.03, 0.03)[number] * _OVERSAMPLING
        pen.line((*start, *end), fill=255, width=max(_OVERSAMPLING, round(thickness)))
    small = canvas.resize((width, height), Image.Resampling.BOX)
    return levels_of(small)
