"""The learning rate of every step, as a function of the settings and of what happened so far.

Nothing but the history is needed, so that a resumed run goes on with the rate that it would have
had.
"""

import math

from training.fit.checkpoint import Progress, gains
from training.fit.config import TrainConfig

_LOWEST = 0.01
"""Share of the first rate at which a half cosine ends."""


def learning_rate(config: TrainConfig, progress: Progress) -> float:
    """The rate of the next epoch, by the schedule that the settings name."""
    match config.schedule:
        case "cosine":
            share = _half_cosine(config, progress)
        case "plateau":
            share = config.plateau_factor ** _plateaus(config, progress)
        case _:
            share = 1.0
    return config.learning_rate * share


def warm_up(rate: float, step: int, warmup_steps: int) -> float:
    """The rate of a step, counted from 0 over all epochs, which rises to `rate` in so many."""
    return rate * min(1.0, (step + 1) / (warmup_steps + 1))


def _half_cosine(config: TrainConfig, progress: Progress) -> float:
    """1 while pictures are clean, then a half cosine down to `_LOWEST` (SGDR, without restarts)."""
    if progress.clean_epochs is None:
        return 1.0
    done = (progress.epoch - progress.clean_epochs) / (config.epochs - progress.clean_epochs)
    return _LOWEST + (1 - _LOWEST) * (1 + math.cos(math.pi * done)) / 2


def _plateaus(config: TrainConfig, progress: Progress) -> int:
    """How often the watched figure has not become lower for `plateau_patience` epochs."""
    waited = found = 0
    for gained in gains(progress.history, config.monitor):
        waited = 0 if gained else waited + 1
        if waited == config.plateau_patience:
            found, waited = found + 1, 0
    return found
