"""The line that the soak judges by; quick, so that it is run with every other test."""

from random import Random

import pytest

from tests.hostile.trend import trend


def test_a_slope_is_found_in_noise() -> None:
    """What grows by 3 for each step is told from what does not, within a few standard errors."""
    noise = Random(0)
    steps = range(1000)
    level = [noise.gauss(0, 50) for _ in steps]
    rising = trend(steps, [3 * step + y for step, y in zip(steps, level, strict=True)])
    flat = trend(steps, level)
    assert abs(rising.slope - 3) < 4 * rising.error < 0.1
    assert abs(flat.slope) < 4 * flat.error


def test_warm_up_is_left_out() -> None:
    """A rise at the beginning is no trend."""
    assert trend(range(100), [min(step, 20) for step in range(100)]).slope == 0


def test_too_few_measurements() -> None:
    """Of two points anything could be said."""
    with pytest.raises(ValueError, match="too few"):
        trend([0, 1], [0, 1])
