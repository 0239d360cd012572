"""Warps of a whole picture: every point moves by a smooth field.

A field takes points `(n, 2)` in pixels, and returns the offsets, `(n, 2)`, of the pixels that are
shown there: the warped picture shows at `p` the pixel at `p + field(p)`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Points = NDArray[np.float64]
Field = Callable[[Points], Points]
_COLUMNS, _ROWS = 12, 3


def _sine(width: int, height: int, strength: float, rng: np.random.Generator) -> Field:
    rise = strength * height * 0.14
    period, phase = width * (0.2 + 0.9 * rng.random()), 2 * np.pi * rng.random()
    sway = strength * height * 0.1 * rng.random()
    sway_period, sway_phase = height * (0.5 + rng.random()), 2 * np.pi * rng.random()

    def field(points: Points) -> Points:
        x, y = points.T
        return np.column_stack((
            sway * np.sin(2 * np.pi * y / sway_period + sway_phase),
            rise * np.sin(2 * np.pi * x / period + phase),
        ))  # fmt: skip

    return field


def _perspective(width: int, height: int, strength: float, rng: np.random.Generator) -> Field:
    """Each corner moves by itself."""
    corners = (rng.random((2, 2, 2)) * 2 - 1) * strength * np.array((0.05 * width, 0.18 * height))

    def field(points: Points) -> Points:
        x, y = (points / (width, height)).T[:, :, np.newaxis]
        above = corners[0, 0] * (1 - x) + corners[0, 1] * x
        below = corners[1, 0] * (1 - x) + corners[1, 1] * x
        return above * (1 - y) + below * y

    return field


def _swirl(width: int, height: int, strength: float, rng: np.random.Generator) -> Field:
    centre = np.array((width * (0.25 + 0.5 * rng.random()), height / 2))
    turn = strength * 0.5 * (1 if rng.random() < 0.5 else -1)
    radius = height * (0.7 + 0.8 * rng.random())

    def field(points: Points) -> Points:
        away = points - centre
        angle = turn * np.exp(-np.square(away).sum(axis=1) / radius**2)
        sine, cosine = np.sin(angle), np.cos(angle)
        x, y = away.T
        return np.column_stack((x * cosine - y * sine, x * sine + y * cosine)) - away

    return field


def _elastic(width: int, height: int, strength: float, rng: np.random.Generator) -> Field:
    """A few sines in random directions."""
    waves = rng.random((4, 4))
    amplitude = strength * height * 0.05

    def field(points: Points) -> Points:
        moved = np.zeros_like(points)
        for number, (kx, ky, phase, share) in enumerate(waves):
            angle = (
                2
                * np.pi
                * (points[:, 0] * (0.4 + kx) / height + points[:, 1] * (ky - 0.5) / height + phase)
            )
            moved[:, number % 2] += amplitude * (0.3 + share) * np.sin(angle)
        return moved

    return field


def _arch(width: int, height: int, strength: float, rng: np.random.Generator) -> Field:
    rise = strength * height * 0.2 * (1 if rng.random() < 0.5 else -1)

    def field(points: Points) -> Points:
        x = points[:, 0] / width * 2 - 1
        return np.column_stack((np.zeros_like(x), rise * (x**2 - 0.4)))

    return field


WARPS: dict[str, Callable[[int, int, float, np.random.Generator], Field]] = {
    "sine": _sine,
    "perspective": _perspective,
    "swirl": _swirl,
    "elastic": _elastic,
    "arch": _arch,
}
"""Functions from width, height, strength (0 to 1) and generator to a field."""


def mesh_of(
    width: int, height: int, field: Field
) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """The field as a mesh of quadrilaterals for `warped`."""
    xs = np.linspace(0, width, _COLUMNS + 1).round()
    ys = np.linspace(0, height, _ROWS + 1).round()
    grid = np.stack(np.meshgrid(xs, ys), axis=-1)
    source: Any = (grid.reshape(-1, 2) + field(grid.reshape(-1, 2))).reshape(grid.shape).tolist()
    columns, rows = xs.astype(int).tolist(), ys.astype(int).tolist()
    return [
        (
            (columns[i], rows[j], columns[i + 1], rows[j + 1]),
            (*source[j][i], *source[j + 1][i], *source[j + 1][i + 1], *source[j][i + 1]),
        )
        for j in range(_ROWS)
        for i in range(_COLUMNS)
    ]


def warped(
    image: Image.Image, mesh: list[tuple[tuple[int, ...], tuple[float, ...]]]
) -> Image.Image:
    """The image warped by a mesh; pixels from outside the image become black."""
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
