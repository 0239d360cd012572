"""Interpolates between the weights before and after a training.

Fine-tuning on a few hundred pictures makes a model forget some of what it knew. Weights between
both read unseen pictures better than either (Wortsman et al. 2022, "Robust fine-tuning of zero-shot
models").
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from numpy.typing import NDArray

_SHARES = (1.0, 0.9, 0.8, 0.7)
"""Shares of the trained weights to try. By the loss of few pictures, smaller shares would win, but
they read other pictures worse."""

Weights = Sequence[NDArray[np.float32]]
"""All weights of a model, as `get_weights` returns them."""


def move_back(model: keras.Model, start: Weights, share: float) -> None:
    """Sets a model to this share of its trained weights, plus the rest of the starting weights."""
    pairs = zip(model.get_weights(), start, strict=True)
    model.set_weights([share * after + (1 - share) * before for after, before in pairs])


def losses_between(
    model: keras.Model, start: Weights, loss: Callable[[], float]
) -> dict[float, float]:
    """The losses of a trained model by the share of its own weights that it keeps.

    Args:
        start: the weights that the training started from.
        loss: gives the loss of the model's current weights on pictures that were not trained on.
    """
    trained = model.get_weights()
    losses = {}
    for share in _SHARES:
        move_back(model, start, share)
        losses[share] = loss()
        model.set_weights(trained)
    return losses
