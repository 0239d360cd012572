"""Calibrates the confidences of a model.

A network's probabilities are overconfident. A temperature flattens every time step
(Guo et al. 2017, "On Calibration of Modern Neural Networks"), and a logistic function maps the
probability of a text or a character to the share of such texts or characters that are right
(Platt 1999). `training.export.calibrate` fits the parameters, which are stored in the model's
metadata.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MIN_DISTANCE = 1e-7
"""Smallest distance of a confidence from 0 and 1."""

_MIN_PROBABILITY = 1e-9
"""Smallest probability of a class. A softmax in float32 may round to 0, and a constraint that needs
the class could then not be satisfied."""


@dataclass(frozen=True, slots=True)
class Logistic:
    """Scales and shifts the log-odds of a probability; scale 1 and offset 0 change nothing."""

    scale: float = 1.0
    offset: float = 0.0

    def __call__(self, probability: float) -> float:
        """The calibrated probability."""
        p = min(max(probability, _MIN_DISTANCE), 1 - _MIN_DISTANCE)
        odds = self.scale * (math.log(p) - math.log1p(-p)) + self.offset
        return (1 + math.tanh(odds / 2)) / 2  # the logistic function, without overflow


@dataclass(frozen=True, slots=True)
class Calibration:
    """The parameters of one model; the defaults change nothing.

    Args:
        temperature: above 1 flattens the distribution of every time step.
        text, character: map the probabilities of texts and of characters to confidences.
    """

    temperature: float = 1.0
    text: Logistic = Logistic()
    character: Logistic = Logistic()

    def tempered(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Applies the temperature to distributions `(…, classes)`."""
        possible = np.maximum(probabilities.astype(np.float64), _MIN_PROBABILITY)
        if self.temperature == 1:
            return possible
        powers = possible ** (1 / self.temperature)
        return powers / powers.sum(axis=-1, keepdims=True)
