"""The CRNN of the Keras example "OCR model for reading Captchas".

Two 3×3 convolutions with 2×2 poolings turn the picture into one feature column per time
step, two bidirectional LSTMs read the columns in both directions, and the softmax `dense2`
gives the class probabilities of every time step for CTC.
"""

import keras
from keras import layers

from training.data.dataset import PIXELS_PER_TIME_STEP, time_steps_of

OUTPUT_LAYER = "dense2"


def build_crnn(
    width: int,
    height: int,
    classes: int,
    dropout: float = 0.0,
    lstm_dropout: float = 0.0,
    channels: int = 1,
) -> keras.Model:
    """Builds the CRNN; 432,596 parameters for 200×50 gray pictures and 20 classes.

    Args:
        width, height: the picture size in pixels, at least 4 each.
        classes: the symbols of the alphabet and the blank.
        dropout: the share of features dropped after `dense1` in training.
        lstm_dropout: the share of the LSTMs' inputs dropped in training.
        channels: 1 for gray pictures, 3 for RGB.

    Returns:
        A model from `image`, float32 `(n, width, height, channels)`, to `dense2`, float32
        `(n, width // 4, classes)`, whose rows sum to 1.
    """
    image = keras.Input((width, height, channels), name="image")
    x = _convolution(32, "Conv1")(image)
    x = layers.MaxPooling2D((2, 2), name="pool1")(x)
    x = _convolution(64, "Conv2")(x)
    x = layers.MaxPooling2D((2, 2), name="pool2")(x)
    columns = (time_steps_of(width), (height // PIXELS_PER_TIME_STEP) * 64)
    x = layers.Reshape(columns, name="reshape")(x)
    x = layers.Dense(64, activation="relu", name="dense1")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = _bidirectional_lstm(128, lstm_dropout, "bidirectional1")(x)
    x = _bidirectional_lstm(64, lstm_dropout, "bidirectional2")(x)
    probabilities = layers.Dense(classes, activation="softmax", name=OUTPUT_LAYER)(x)
    return keras.Model(image, probabilities, name="crnn")


def _convolution(filters: int, name: str) -> layers.Layer:
    return layers.Conv2D(
        filters,
        (3, 3),
        activation="relu",
        kernel_initializer="he_normal",
        padding="same",
        name=name,
    )


def _bidirectional_lstm(units: int, dropout: float, name: str) -> layers.Layer:
    return layers.Bidirectional(
        layers.LSTM(units, return_sequences=True, dropout=dropout), name=name
    )
