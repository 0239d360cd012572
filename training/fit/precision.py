"""What a GPU can do faster, used where there is one: half precision and compilation by XLA.

Not checked on a GPU; on a processor `auto` changes nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import keras
import tensorflow as tf

from training.fit.config import TrainConfig


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


@contextmanager
def precision_of(config: TrainConfig) -> Iterator[None]:
    """Within it, new layers compute in the precision that the settings and the machine allow.

    In mixed precision (Micikevicius et al. 2018) layers compute in float16 and keep their weights
    in float32, and Keras scales the loss; the softmax and the loss stay in float32.
    """
    before = keras.config.dtype_policy()
    wanted = {"auto": "mixed_float16" if has_gpu() else "float32", "mixed": "mixed_float16"}
    keras.config.set_dtype_policy(wanted.get(config.precision, config.precision))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def compilation_of(config: TrainConfig) -> bool | Literal["auto"]:
    """What to compile the model with: `auto` leaves it to Keras where there is a GPU.

    Keras does not compile models with LSTMs of its own accord.
    """
    if config.xla == "auto":
        return "auto" if has_gpu() else False
    return config.xla == "on"
