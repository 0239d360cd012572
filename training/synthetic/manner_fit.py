"""Measures the look of a family of pictures from a few of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from service.ocr.preprocessing import FloatArray
from training.synthetic.generate import draw
from training.synthetic.levels import levels_of
from training.synthetic.manner import Manner, Range

_ENOUGH = 100
"""Number of pictures that are measured; more would not change the result."""

_ROUNDS = 3
"""Rounds of drawing and correcting."""

_DENSE = 0.5
"""Rows and columns belong to the text from this share of the ink of a full one."""


def manner_of(pictures: FloatArray, texts: Sequence[str], seed: int = 0) -> Manner:
    """Measures paper, ink, and the place and size of the text.

    A property that is hard to measure keeps its default. To find the size and the width, the same
    texts are drawn, and the drawings are measured like the pictures.

    Args:
        pictures: float32 `(n, height, width)`, 0 to 1, at least one.
        texts: their texts.
    """
    pictures, texts = pictures[:_ENOUGH], texts[:_ENOUGH]
    _, height, width = pictures.shape
    found = np.array([_measure(picture) for picture in pictures])
    paper_left, paper_right, ink, noise, left, _, top, bottom = found.T
    manner = Manner(
        paper_left=_range(paper_left),
        paper_right=_range(paper_right),
        ink=_range(ink),
        noise=_range(noise),
        left=_range(left / width, 0.01),
        middle=_range((top + bottom) / 2 / height, 0.01),
    )
    for _ in range(_ROUNDS):
        generator = np.random.default_rng(seed)
        drawings = [draw(text, width, height, generator, manner).image for text in texts]
        drawn = np.array([_measure(levels_of(drawing)) for drawing in drawings])
        wider = _extents(found)[0] / _extents(drawn)[0]
        taller = _extents(found)[1] / _extents(drawn)[1]
        manner = replace(
            manner,
            size=_around(np.mean(manner.size) * taller, 0.2, 1.2),
            stretch=_around(np.mean(manner.stretch) * wider / taller, 0.5, 1.6),
        )
    return manner


def _measure(picture: FloatArray) -> tuple[float, ...]:
    """Levels of left paper, right paper, ink, grain; left, right, top, bottom of the text."""
    width = picture.shape[1]
    edge = max(1, width // 20)
    paper_left, paper_right = np.median(picture[:, :edge]), np.median(picture[:, -edge:])
    paper = np.linspace(paper_left, paper_right, width, dtype=np.float32)
    low, high = np.quantile(picture, (0.02, 0.98))
    # The ink is the extreme that is farther from the paper: the text may be white on black.
    ink = low if paper.mean() - low > high - paper.mean() else high
    noise = 1.05 * np.median(np.abs(np.diff(picture, axis=1)))
    gap = np.where(np.abs(paper - ink) < 0.05, 0.05, paper - ink)
    density = ((paper - picture) / gap).clip(0, 1)
    return (
        float(paper_left), float(paper_right), float(ink), float(noise),
        *_extent(density.sum(axis=0), max(1, width // 40)),
        *_extent(density.sum(axis=1), 1),
    )  # fmt: skip


def _extent(profile: NDArray[np.float32], window: int) -> tuple[float, float]:
    """Start of the first dense place and end of the last one."""
    smooth = np.convolve(profile, np.full(window, 1 / window), "same")
    dense = np.flatnonzero(smooth >= _DENSE * np.quantile(smooth, 0.95))
    return float(dense[0]), float(dense[-1] + 1)


def _range(values: NDArray[np.float64], margin: float = 0.0) -> Range:
    low, high = np.quantile(values, (0.05, 0.95))
    return float(low - margin), float(high + margin)


def _extents(measured: NDArray[np.float64]) -> tuple[float, float]:
    """The median width and height of the texts, in pixels."""
    left, right, top, bottom = measured.T[-4:]
    return float(np.median(right - left)), float(np.median(bottom - top))


def _around(value: np.floating, low: float, high: float) -> Range:
    value = np.clip(value, low, high)
    return 0.92 * float(value), 1.08 * float(value)
