"""Clutter under and over the characters: lines, arcs, dots and the like."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from training.synthetic.manner import Range
from training.synthetic.papers import Colour
from training.synthetic.sampling import Random, one_of

CLUTTERS = (
    "lines", "curves", "arcs", "waves", "dots", "circles", "grid", "strike", "dashes", "triangles",
    "crosses",
)  # fmt: skip
COLOURS = ("ink", "any", "paper", "faint")


@dataclass(frozen=True, slots=True)
class Clutter:
    """Clutter of one kind.

    Args:
        kind: one of `CLUTTERS`.
        count: range of the number of shapes, drawn from uniformly.
        thickness: range of the thickness of lines, as a share of the height.
        colour: one of `COLOURS`: an ink's, any, the paper's, or one between ink and paper.
        over: drawn over the text instead of under it.
        smooth: whether it is anti-aliased.
    """

    kind: str
    count: Range = (1, 4)
    thickness: Range = (0.02, 0.04)
    colour: str = "ink"
    over: bool = True
    smooth: bool = True


def add_clutter(
    picture: Image.Image, clutter: Clutter, inks: Sequence[Colour], paper: Colour, rng: Random
) -> None:
    """Draws clutter on an RGB picture."""
    count = round(rng.uniform(*clutter.count))
    width, height = picture.size
    if clutter.smooth:
        mask = Image.new("L", (2 * width, 2 * height))
        pen = ImageDraw.Draw(mask)
        for _ in range(count):
            _shape(pen, clutter, 2 * width, 2 * height, 255, rng)
        colour = _colour(clutter.colour, inks, paper, rng)
        picture.paste(colour, (0, 0), mask.resize(picture.size, Image.Resampling.BOX))
        return
    pen = ImageDraw.Draw(picture)
    for _ in range(count):
        _shape(pen, clutter, width, height, _colour(clutter.colour, inks, paper, rng), rng)


def _colour(kind: str, inks: Sequence[Colour], paper: Colour, rng: Random) -> Colour:
    ink = one_of(inks, rng)
    match kind:
        case "ink":
            return ink
        case "any":
            r, g, b = (rng.random(3) * 256).astype(int).tolist()
            return r, g, b
        case "paper":
            return paper
        case _:
            share = 0.3 + 0.3 * rng.random()
            r, g, b = (round(p + (i - p) * share) for i, p in zip(ink, paper, strict=True))
            return r, g, b


def _shape(
    pen: ImageDraw.ImageDraw,
    clutter: Clutter,
    width: int,
    height: int,
    fill: Colour | int,
    rng: Random,
) -> None:
    thick = max(1, round(rng.uniform(*clutter.thickness) * height))
    a, b, c, d, e, f = rng.random(6).tolist()
    match clutter.kind:
        case "lines":
            pen.line((a * width, b * height, c * width, d * height), fill=fill, width=thick)
        case "strike":
            y = (0.3 + 0.4 * b) * height
            pen.line((0.1 * a * width, y, (0.9 + 0.1 * c) * width, y + (d - 0.5) * 0.3 * height),
                     fill=fill, width=thick)  # fmt: skip
        case "curves":
            ys = (rng.random(4) * height).tolist()
            xs = np.sort(rng.random(4) * 1.2 - 0.1) * width
            t = np.linspace(0, 1, 14)
            s = 1 - t
            basis = np.stack((s**3, 3 * s * s * t, 3 * s * t * t, t**3), axis=1)
            points = np.column_stack((basis @ xs, basis @ ys))
            pen.line(points.ravel().tolist(), fill=fill, width=thick, joint="curve")
        case "arcs":
            x, y = (a * 1.2 - 0.4) * width, (b * 1.4 - 0.6) * height
            box = (x, y, x + (0.2 + 0.8 * c) * width, y + (0.3 + 1.2 * d) * height)
            pen.arc(box, 360 * e, 360 * e + 40 + 200 * f, fill=fill, width=thick)
        case "waves":
            x = np.linspace(0, width, 30)
            turn = 2 * math.pi
            y = (0.2 + 0.6 * a) * height + (0.05 + 0.25 * b) * height * np.sin(
                turn * (x / width * (0.7 + 3 * c) + d)
            )
            pen.line(np.column_stack((x, y)).ravel().tolist(), fill=fill, width=thick)
        case "dots":
            r = thick * (0.4 + 0.6 * c)
            x, y = a * width, b * height
            pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        case "circles":
            r = (0.05 + 0.35 * c * c) * height
            x, y = a * width, b * height
            pen.ellipse((x - r, y - r, x + r, y + r), outline=fill, width=thick)
        case "grid":
            step = max(4 * thick, (0.12 + 0.3 * a) * height)
            for x in np.arange(b * step, width, step).tolist():
                pen.line((x, 0, x, height), fill=fill, width=thick)
            for y in np.arange(c * step, height, step).tolist():
                pen.line((0, y, width, y), fill=fill, width=thick)
        case "dashes":
            x, y = a * width, b * height
            length, angle = (0.1 + 0.25 * c) * height, math.pi * d
            pen.line((x, y, x + length * math.cos(angle), y + length * math.sin(angle)),
                     fill=fill, width=thick)  # fmt: skip
        case "triangles":
            x, y, r = a * width, b * height, (0.1 + 0.25 * c) * height
            corners = [
                (x + r * math.cos(g + 6 * d), y + r * math.sin(g + 6 * d)) for g in (0, 2, 4)
            ]
            pen.polygon(corners, outline=fill)
        case _:  # crosses
            x, y, r = a * width, b * height, (0.03 + 0.05 * c) * height
            pen.line((x - r, y - r, x + r, y + r), fill=fill, width=thick)
            pen.line((x - r, y + r, x + r, y - r), fill=fill, width=thick)
