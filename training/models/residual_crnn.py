"""A deeper CRNN: residual blocks instead of plain convolutions, and one recurrent layer.

The blocks are those of He et al. 2016, "Deep Residual Learning for Image Recognition", with
leaky rectifiers (Maas et al. 2013), and with dropout between their two convolutions, as in
Zagoruyko and Komodakis 2016, "Wide Residual Networks". The width is halved twice, as in
`training.models.crnn`, so that a time step stands for as many columns; the height three times.
"""

import keras
from keras import layers

from training.data.dataset import time_steps_of
from training.models.crnn import OUTPUT_LAYER

_BLOCKS = (
    (16, (2, 2)),
    (16, (1, 1)),
    (32, (2, 2)),
    (32, (1, 1)),
    (64, (1, 2)),
    (64, (1, 1)),
)
"""Filters, and strides along the width and the height, of each block."""

_NEGATIVE_SLOPE = 0.1
_LSTM_UNITS = 128


def build_residual_crnn(
    width: int, height: int, classes: int, dropout: float = 0.0, lstm_dropout: float = 0.0
) -> keras.Model:
    """Builds the residual CRNN; arguments and result are those of `build_crnn`.

    Args:
        dropout: the share of features dropped within every block in training.
    """
    image = x = keras.Input((width, height, 1), name="image")
    for number, (filters, strides) in enumerate(_BLOCKS, start=1):
        x = _block(x, filters, strides, dropout, f"block{number}")
    # Strides round up where the other architecture's poolings round down.
    surplus = x.shape[1] - time_steps_of(width)
    x = layers.Cropping2D(((0, surplus), (0, 0)), name="crop")(x)
    x = layers.Reshape((time_steps_of(width), -1), name="reshape")(x)
    lstm = layers.LSTM(_LSTM_UNITS, return_sequences=True, dropout=lstm_dropout)
    x = layers.Bidirectional(lstm, name="bidirectional")(x)
    # In float32 whatever the precision of the other layers: the loss takes its logarithm.
    softmax = layers.Dense(classes, activation="softmax", dtype="float32", name=OUTPUT_LAYER)
    probabilities = softmax(x)
    return keras.Model(image, probabilities, name="residual-crnn")


def _block(
    x: keras.KerasTensor, filters: int, strides: tuple[int, int], dropout: float, name: str
) -> keras.KerasTensor:
    """Two normalised convolutions, added to what came in."""
    shortcut = x
    if strides != (1, 1) or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, strides, padding="same", name=f"{name}_shortcut")(x)
    x = _convolution(x, filters, strides, f"{name}_1")
    x = layers.LeakyReLU(negative_slope=_NEGATIVE_SLOPE, name=f"{name}_rectified")(x)
    # Within the block, so that the sums pass on what was dropped in none of them.
    x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
    x = layers.Add(name=f"{name}_sum")([_convolution(x, filters, (1, 1), f"{name}_2"), shortcut])
    return layers.LeakyReLU(negative_slope=_NEGATIVE_SLOPE, name=name)(x)


def _convolution(
    x: keras.KerasTensor, filters: int, strides: tuple[int, int], name: str
) -> keras.KerasTensor:
    x = layers.Conv2D(
        filters, 3, strides, padding="same", use_bias=False, kernel_initializer="he_normal",
        name=name,
    )(x)  # fmt: skip
    return layers.BatchNormalization(name=f"{name}_normalized")(x)
