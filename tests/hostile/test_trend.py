"""The trend line that the soak uses. These tests are quick, so they run with all other tests."""

from random import Random

import pytest

from tests.hostile.trend import trend


def test_a_slope_is_found_in_noise() -> None:
    """A growth of 3 per step is told from no growth, within a few standard errors."""
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


def test_too_few_measurements_are_an_error() -> None:
    """Two points say nothing about the error."""
    with pytest.raises(ValueError, match="too few"):
        trend([0, 1], [0, 1])
