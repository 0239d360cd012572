"""Fits a line to measurements by least squares, which tells whether something grows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WARM_UP = 0.2
"""The share of measurements at the beginning that the line ignores."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope and its standard error, which assumes independent residuals."""

    slope: float
    error: float


def trend(x: Sequence[float], y: Sequence[float]) -> Trend:
    """How much `y` grows for each unit of `x`, after warm-up.

    Raises:
        ValueError: after warm-up there are fewer than 3 measurements.
    """
    skipped = int(WARM_UP * len(x))
    across, up = np.asarray(x[skipped:], float), np.asarray(y[skipped:], float)
    if len(across) < 3:
        raise ValueError(f"{len(x)} measurements are too few for a trend")
    across -= across.mean()
    spread = float((across**2).sum())
    slope = float((across * up).sum()) / spread
    residuals = up - up.mean() - slope * across
    return Trend(slope, float((residuals**2).sum() / (len(across) - 2) / spread) ** 0.5)
