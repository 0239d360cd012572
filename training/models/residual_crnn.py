"""A deeper CRNN: residual blocks instead of plain convolutions, and one recurrent layer.

The blocks are those of He et al. 2016, "Deep Residual Learning for Image Recognition", with
leaky rectifiers (Maas et al. 2013), and with dropout between their two convolutions, as in
Zagoruyko and Komodakis 2016, "Wide Residual Networks". The width is halved twice, as in
`training.models.crnn`, so that a time step has the same number of columns. The height is halved
three times.
"""

from collections.abc import Sequence

import keras
from keras import layers

from training.data.dataset import time_steps_of
from training.models.crnn import OUTPUT_LAYER

_STRIDES = ((2, 2), (1, 1), (2, 2), (1, 1), (1, 2), (1, 1))
"""Strides of each block along the width and the height."""

_NEGATIVE_SLOPE = 0.1
_LSTM_UNITS = 128


def build_residual_crnn(
    width: int,
    height: int,
    classes: int,
    dropout: float = 0.0,
    lstm_dropout: float = 0.0,
    channels: int = 1,
    filters: Sequence[int] = (16, 16, 32, 32, 64, 64),
    name: str = "residual-crnn",
) -> keras.Model:
    """Builds the residual CRNN; arguments and result are those of `build_crnn`.

    Args:
        dropout: the share of features dropped within every block in training.
        filters: number of filters in each of the six blocks.
        name: name of the model.
    """
    image = x = keras.Input((width, height, channels), name="image")
    for number, (count, strides) in enumerate(zip(filters, _STRIDES, strict=True), start=1):
        x = _block(x, count, strides, dropout, f"block{number}")
    # Strides round up, but the poolings of the other architecture round down.
    surplus = x.shape[1] - time_steps_of(width)
    x = layers.Cropping2D(((0, surplus), (0, 0)), name="crop")(x)
    x = layers.Reshape((time_steps_of(width), -1), name="reshape")(x)
    lstm = layers.LSTM(_LSTM_UNITS, return_sequences=True, dropout=lstm_dropout)
    x = layers.Bidirectional(lstm, name="bidirectional")(x)
    probabilities = layers.Dense(classes, activation="softmax", name=OUTPUT_LAYER)(x)
    return keras.Model(image, probabilities, name=name)


def _block(
    x: keras.KerasTensor, filters: int, strides: tuple[int, int], dropout: float, name: str
) -> keras.KerasTensor:
    """Two normalised convolutions, added to the block's input."""
    shortcut = x
    if strides != (1, 1):
        # Picks every other pixel. A strided 1×1 convolution would do the same, but TensorFlow
        # 2.21 with oneDNN then writes past its memory if the input has one channel.
        shortcut = layers.MaxPooling2D(1, strides, name=f"{name}_subsample")(shortcut)
    if strides != (1, 1) or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, padding="same", name=f"{name}_shortcut")(shortcut)
    x = _convolution(x, filters, strides, f"{name}_1")
    x = layers.LeakyReLU(negative_slope=_NEGATIVE_SLOPE, name=f"{name}_rectified")(x)
    # Within the block, so that the shortcut passes on all features.
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
