"""Averages the weights over the steps of a training; the average reads better than the last step.

Uses the exponential moving average that Keras' optimizers keep beside the weights (Polyak and
Juditsky 1992 for the idea). The average is part of the optimizer's state, so it is saved and
resumed with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """A context in which the model has its averaged weights, if its optimizer keeps an average.

    Validate and save the model inside; training goes on with the weights of the last step.
    """
    variables = model.trainable_variables
    if not model.optimizer.use_ema or not int(model.optimizer.iterations):
        yield
        return
    last = [variable.numpy() for variable in variables]
    model.optimizer.finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, values in zip(variables, last, strict=True):
            variable.assign(values)


def adam(learning_rate: float, momentum: float) -> keras.optimizers.Optimizer:
    """Adam, with a moving average of the weights unless the momentum is 0.

    Args:
        momentum: share of the average that stays at each step, at least 0 and below 1.
    """
    return keras.optimizers.Adam(learning_rate, use_ema=momentum > 0, ema_momentum=momentum or 0.99)
