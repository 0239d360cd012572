"""The recipe `auto`: chooses the settings of a training by the data.

It fine-tunes the base, a model that has seen very many styles of pictures. Without the base's file,
the recipe `robust` trains from scratch.
"""

import argparse
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.dataset import Dataset, alphabet_of, working_size
from training.data.legibility import MOST_MEASURED, colour_carries_text
from training.data.split import split_by_content
from training.fit.base_file import BASE, read_base
from training.fit.config import (
    AUTO,
    TrainConfig,
    config_from,
    load_config,
    overrides_of,
    read_settings,
    recipe_path,
)

_FEW = 100
"""Pictures of the training split below which none is spent on validation."""

_CHOOSES_FROM = 800
"""Pictures of the training split from which on those for validation choose the epoch that is kept.
Fewer only say when to stop: one picture of 20 is 5 %, and epochs differ by less."""

_MINUTES = ((100, 10.0), (400, 15.0))
"""Time by the training split: that of the first row with more pictures; else `_MOST_MINUTES`."""
_MOST_MINUTES = 30.0

_EPOCH, _SHORT_EPOCH = 1600, 800
"""Pictures that an epoch shows, for which labelled ones are repeated. With fewer than 400 labels
epochs are short, since validating takes little time."""

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings, and in words why they are such."""

    config: TrainConfig
    explanation: str


def plan_of(arguments: argparse.Namespace, **overrides: Any) -> Plan:
    """The settings that a command line asks for, whatever the recipe, with `overrides` on top.

    Raises:
        DataError: the data cannot be used.
        ConfigError: the settings cannot be.
    """
    overrides = overrides_of(arguments) | overrides
    if arguments.config or arguments.recipe != AUTO:
        path = arguments.config or recipe_path(arguments.recipe)
        return Plan(load_config(path, overrides), f"recipe {path.stem}")
    return choose(Dataset(Path(overrides.get("data", "data"))), overrides)


def choose(dataset: Dataset, overrides: Mapping[str, Any], base: Path = BASE) -> Plan:
    """Chooses the settings for a data set.

    Args:
        overrides: settings by dotted name that are not to be chosen.
        base: the file of the base, which may be missing.

    Raises:
        DataError: the data cannot be used.
        RunError: the base is there and cannot be read.
        ConfigError: an override cannot be.
    """
    samples = dataset.samples
    splits = split_by_content(samples)
    labels = len(splits["train"])
    labels = min(labels, overrides.get("labels") or labels)
    shown = (dataset.read(sample) for sample in samples[:MOST_MEASURED])
    channels = 3 if colour_carries_text(shown) else 1
    chosen: dict[str, Any] = {
        "channels": channels,
        "minutes": next((m for most, m in _MINUTES if labels < most), _MOST_MINUTES),
    }
    robust = read_settings(recipe_path("robust"))
    known = read_base(base).architecture if base.exists() else ""
    if overrides.get("init_from"):
        chosen |= robust | _fine_tuning(labels)
        start = f"starts from {overrides['init_from']}"
    elif not known:
        chosen |= robust
        start = f"trains from scratch, since {base} is not there"
    elif overrides.get("architecture", known) != known:
        chosen |= robust
        start = f"trains from scratch, since the base is a {known}"
    else:
        chosen |= _fine_tuning(labels) | {"architecture": known, "init_from": str(base)}
        start = f"starts from {base.name}"
    config = config_from(chosen | dict(overrides))
    trained = len(splits["train"])
    trained += len(splits["validation"]) if config.train_on_validation else 0
    trained = min(trained, config.labels or trained)
    width, height = working_size(samples)
    lengths = Counter(len(sample.label) for sample in samples)
    colour = "in colour, since gray loses some of the text" if channels == 3 else "in gray"
    explanation = (
        f"{trained} labelled pictures to train on, {min(lengths)} to {max(lengths)} characters of "
        f"{len(alphabet_of(samples))} symbols: {start}, "
        f"{config.width or width}×{config.height or height} {colour}"
        + (f", for at most {config.minutes:g} minutes" if config.minutes else "")
    )
    return Plan(config, explanation)


def _fine_tuning(labels: int) -> dict[str, Any]:
    """The settings that fit a model that reads already to so many labelled pictures."""
    few = labels < _FEW
    epoch = _EPOCH if labels >= _EPOCH // 4 else _SHORT_EPOCH
    epochs = 100
    if few:
        epochs = 200  # until they are read
    elif epoch == _SHORT_EPOCH:
        # Of 800 unseen pictures of a hard family, 30 epochs read 0.68, 58 read 0.65.
        epochs = 30
    return {
        "epochs": epochs,
        "batch_size": _BATCH,
        "learning_rate": 0.002,
        "schedule": "cosine",
        "warmup_steps": 50,
        "dropout": 0.1,
        "lstm_dropout": 0.1,
        "average": 0.99,
        "monitor": "val_cer",
        "patience": 15,
        # With few labels, 6,000 pictures more, shown after all labelled ones were read, cost 6 % of
        # the unseen ones.
        "learned": 0.98 if few else 0.0,
        "keep_last": labels < _CHOOSES_FROM,
        "interpolated": True,
        "train_on_validation": few,
        # No picture is held back that would calibrate the confidences.
        "cross_fit": few,
        "shown": max(epoch, labels),
        "steps_per_epoch": 0 if labels <= 2 * _EPOCH else 2 * _EPOCH // _BATCH,
        # With 50 labels, training ends before it helps.
        "spliced": 0.0 if few else 0.9,
        "generated": 0,
        "aligned_epochs": 0,
        "backgrounds": epoch // 16,
        "strength": 1.0,
        # With 50 labels, gentle distortions cost 8 of 200 unseen pictures of hard families.
        "gentle": 1.0 if few else 0.3,
        "augmentation.clean": 0.3,
        "clean_until": 0.0,
        "ramp_epochs": 3,
    }
