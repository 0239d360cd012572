"""The architectures that a run can train, by their names in the settings."""

from collections.abc import Callable
from functools import partial

import keras

from training.models.crnn import build_crnn
from training.models.residual_crnn import build_residual_crnn

ARCHITECTURES: dict[str, Callable[..., keras.Model]] = {
    "crnn": build_crnn,
    "residual-crnn": build_residual_crnn,
    "residual-crnn-wide": partial(
        build_residual_crnn, filters=(16, 16, 48, 48, 96, 96), name="residual-crnn-wide"
    ),
}
"""All take the same arguments, and output a time step for every four columns of the picture, in the
layer `OUTPUT_LAYER`. The export expects fused LSTMs."""


def build_model(
    architecture: str,
    width: int,
    height: int,
    classes: int,
    dropout: float = 0.0,
    lstm_dropout: float = 0.0,
    channels: int = 1,
) -> keras.Model:
    """Builds a model by the name of its architecture; see `training.models.crnn.build_crnn`."""
    return ARCHITECTURES[architecture](width, height, classes, dropout, lstm_dropout, channels)
