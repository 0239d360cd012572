"""The number of epochs and the learning rate, as functions of the settings and the history.

They depend on nothing else, so a resumed run goes on with the same rate as without an interruption.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from training.fit.checkpoint import Progress
from training.fit.config import TrainConfig

_LOWEST = 0.01
"""Share of the first learning rate at which a half cosine ends."""

_EXPORT_SECONDS = 120.0
"""Seconds of `minutes` for imports, charts, export, calibration and evaluation."""

_COOL_DOWN = 4
"""Epochs in which a half cosine ends after validation has stopped improving."""


def planned_epochs(config: TrainConfig, progress: Progress, prepared: float) -> int:
    """The planned number of epochs, at least the number of epochs done.

    It is the least of: `epochs`, the epochs that the time allows, and the epochs until validation
    has not improved for `patience` epochs. A half cosine then takes a few more to come down.

    Args:
        prepared: seconds that passed before the first epoch.
    """
    epochs = min(config.epochs, _affordable_epochs(config, progress, prepared))
    stalled = _stalled_epoch(config, progress)
    if stalled is not None:
        epochs = min(epochs, stalled + (_COOL_DOWN if config.schedule == "cosine" else 0))
    return max(epochs, progress.epoch)


def _affordable_epochs(config: TrainConfig, progress: Progress, prepared: float) -> int:
    if not config.minutes or not progress.history:
        return config.epochs
    times = [row["seconds"] for row in progress.history]
    # The first epoch takes longer, since it builds the graph.
    each = min(times[0], sum(times[1:]) / len(times[1:])) if times[1:] else times[0]
    return progress.epoch + max(0, int(seconds_left(config, progress, prepared) / each))


def seconds_left(config: TrainConfig, progress: Progress, prepared: float) -> float:
    """The seconds of `minutes` that are left for epochs; infinite if time is not limited."""
    if not config.minutes:
        return math.inf
    spent = prepared + sum(row["seconds"] for row in progress.history)
    return 60 * config.minutes - _EXPORT_SECONDS - spent


def time_for_halves(config: TrainConfig, spent: float) -> bool:
    """Whether `minutes` leave time to train on the halves, which takes as long as the run did.

    Args:
        spent: seconds that the run took.
    """
    return not config.minutes or 2 * spent <= 60 * config.minutes - _EXPORT_SECONDS


def _stalled_epoch(config: TrainConfig, progress: Progress) -> int | None:
    """The first epoch at which validation had not improved for `patience` epochs.

    With `learned`, the first epoch at which that share of the pictures was read.
    """
    if config.learned:
        shares = (row["val_clean_exact_match"] for row in progress.history)
        return next((n for n, share in enumerate(shares, 1) if share >= config.learned), None)
    if config.train_on_validation:
        return None
    waited = 0
    for epoch, gained in _gains(progress.history, config.monitor):
        waited = 0 if gained else waited + 1
        if waited == config.patience:
            return epoch
    return None


def learning_rate(config: TrainConfig, progress: Progress, epochs: int) -> float:
    """The learning rate of the next epoch, by the schedule in the settings.

    Args:
        epochs: planned number of epochs.
    """
    match config.schedule:
        case "cosine":
            share = _half_cosine(progress, epochs)
        case "plateau":
            share = config.plateau_factor ** _plateaus(config, progress)
        case _:
            share = 1.0
    return config.learning_rate * share


def warm_up(rate: float, step: int, warmup_steps: int) -> float:
    """The learning rate of a step; it rises to `rate` in the first `warmup_steps`.

    Args:
        step: number of the step over all epochs, from 0.
    """
    return rate * min(1.0, (step + 1) / (warmup_steps + 1))


def _half_cosine(progress: Progress, epochs: int) -> float:
    """1 while pictures are clean, then a half cosine down to `_LOWEST` (SGDR without restarts)."""
    if progress.clean_epochs is None:
        return 1.0
    done = (progress.epoch - progress.clean_epochs) / max(1, epochs - progress.clean_epochs)
    return _LOWEST + (1 - _LOWEST) * (1 + math.cos(math.pi * min(1.0, done))) / 2


def _plateaus(config: TrainConfig, progress: Progress) -> int:
    """How often the monitored figure has not fallen for `plateau_patience` epochs."""
    waited = found = 0
    for _, gained in _gains(progress.history, config.monitor):
        waited = 0 if gained else waited + 1
        if waited == config.plateau_patience:
            found, waited = found + 1, 0
    return found


def _gains(history: Sequence[Mapping[str, float]], monitor: str) -> Iterator[tuple[int, bool]]:
    """The epochs, from 1, and whether the monitored figure reached a new low in each.

    At first, a CTC model emits only blanks, for a number of epochs that depends on the data and
    on chance. This plateau is no reason to stop, so its epochs without a gain are left out.
    """
    lowest = float("inf")
    for epoch, figures in enumerate(history, start=1):
        gained = figures[monitor] < lowest
        if gained or figures["val_cer"] < 1:
            yield epoch, gained
        lowest = min(lowest, figures[monitor])
