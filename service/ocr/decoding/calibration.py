"""Calibrates the confidences of a model.

A network's probabilities are overconfident. A temperature flattens every time step
(Guo et al. 2017, "On Calibration of Modern Neural Networks"), and a logistic function maps the
probability of a text, and that of a character, to how often such a one is right (Platt 1999).
The parameters are fitted by `training.export.calibrate`, and travel in the model's metadata.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SUREST = 1e-7
"""Least distance of a confidence from 0 and 1."""

_LEAST = 1e-9
"""Least probability of a class. A softmax in float32 may round to 0, and a constraint that needs
that class could then not be satisfied."""


@dataclass(frozen=True, slots=True)
class Logistic:
    """Maps a probability by `scale` and `offset` of its log-odds; 1 and 0 leave it as it is."""

    scale: float = 1.0
    offset: float = 0.0

    def __call__(self, probability: float) -> float:
        """The calibrated probability."""
        p = min(max(probability, _SUREST), 1 - _SUREST)
        odds = self.scale * (math.log(p) - math.log1p(-p)) + self.offset
        return (1 + math.tanh(odds / 2)) / 2  # the logistic function, without overflow


@dataclass(frozen=True, slots=True)
class Calibration:
    """The parameters of one model; the defaults change nothing.

    Args:
        temperature: above 1 flattens the distribution of every time step.
        text, character: for the probabilities of texts and of characters.
    """

    temperature: float = 1.0
    text: Logistic = Logistic()
    character: Logistic = Logistic()

    def tempered(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Distributions `(…, classes)` at the temperature."""
        possible = np.maximum(probabilities.astype(np.float64), _LEAST)
        if self.temperature == 1:
            return possible
        powers = possible ** (1 / self.temperature)
        return powers / powers.sum(axis=-1, keepdims=True)
