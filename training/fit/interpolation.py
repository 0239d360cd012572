"""Weights between those that a training started from and those that it ended with.

A few hundred pictures wear off some of what a model knew before. Weights between both read unseen
pictures better than either (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from numpy.typing import NDArray

_SHARES = (1.0, 0.9, 0.8, 0.7)
"""Of the trained weights that are tried. The loss of few pictures would go further back, where
other pictures are read worse."""

Weights = Sequence[NDArray[np.float32]]
"""All of a model, as `get_weights` gives them."""


def move_back(model: keras.Model, start: Weights, share: float) -> None:
    """Leaves a trained model that share of its weights; the rest are those that it started from."""
    pairs = zip(model.get_weights(), start, strict=True)
    model.set_weights([share * after + (1 - share) * before for after, before in pairs])


def losses_between(
    model: keras.Model, start: Weights, loss: Callable[[], float]
) -> dict[float, float]:
    """The losses of a trained model by the share of its weights that it would keep.

    Args:
        start: what the training started from.
        loss: of the model as it is, on pictures that were not trained on.
    """
    trained = model.get_weights()
    losses = {}
    for share in _SHARES:
        move_back(model, start, share)
        losses[share] = loss()
        model.set_weights(trained)
    return losses
