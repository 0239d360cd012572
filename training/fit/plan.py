"""The recipe `auto`: chooses the settings of a training by the data.

The recipe fine-tunes the base, a model trained on very many styles of pictures. If the file of the
base is missing, it trains from scratch with the settings of the recipe `robust`.
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
"""With fewer pictures in the training split, all pictures are trained on."""

_CHOOSES_FROM = 800
"""From this many pictures in the training split, validation chooses the epoch that is kept. With
fewer, it only decides when to stop: one picture of 20 is 5 %, and epochs differ by less."""

_MINUTES = ((100, 10.0), (400, 15.0))
"""Rows of a number of pictures, and the minutes for training splits with fewer pictures."""
_MOST_MINUTES = 30.0
"""Training time in minutes for all larger training splits."""

_EPOCH, _SHORT_EPOCH = 1600, 800
"""Pictures of an epoch; labelled pictures are repeated to reach this number. With fewer than 400
labels epochs are short, since validation takes little time."""

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings, and an explanation of them."""

    config: TrainConfig
    explanation: str


def plan_of(arguments: argparse.Namespace, **overrides: Any) -> Plan:
    """The settings that a command line asks for, with any recipe, and with `overrides` on top.

    Raises:
        DataError: the data cannot be used.
        ConfigError: the settings are invalid.
    """
    overrides = overrides_of(arguments) | overrides
    if arguments.config or arguments.recipe != AUTO:
        path = arguments.config or recipe_path(arguments.recipe)
        return Plan(load_config(path, overrides), f"recipe {path.stem}")
    return choose(Dataset(Path(overrides.get("data", "data"))), overrides)


def choose(dataset: Dataset, overrides: Mapping[str, Any], base: Path = BASE) -> Plan:
    """Chooses the settings for a data set.

    Args:
        overrides: settings by dotted name that are given, not chosen.
        base: the file of the base, which may be missing.

    Raises:
        DataError: the data cannot be used.
        RunError: the file of the base cannot be read.
        ConfigError: an override is invalid.
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
        start = f"trains from scratch, since {base} is missing"
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
    """The settings for fine-tuning a model on this number of labelled pictures."""
    few = labels < _FEW
    epoch = _EPOCH if labels >= _EPOCH // 4 else _SHORT_EPOCH
    epochs = 100
    if few:
        epochs = 200  # `learned` ends the training earlier
    elif epoch == _SHORT_EPOCH:
        # On 800 unseen pictures of a hard family, 30 epochs read 0.68, and 58 epochs 0.65.
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
        # With few labels, 6,000 more training pictures after all labelled ones were read lost 6 %
        # of the unseen ones.
        "learned": 0.98 if few else 0.0,
        "keep_last": labels < _CHOOSES_FROM,
        "interpolated": True,
        "train_on_validation": few,
        # With few labels, no picture is held out that could calibrate the confidences.
        "cross_fit": few,
        "shown": max(epoch, labels),
        "steps_per_epoch": 0 if labels <= 2 * _EPOCH else 2 * _EPOCH // _BATCH,
        # With 50 labels, training ends before splicing helps.
        "spliced": 0.0 if few else 0.9,
        "generated": 0,
        "aligned_epochs": 0,
        "backgrounds": epoch // 16,
        "strength": 1.0,
        # With 50 labels, gentle distortions lost 8 of 200 unseen pictures of hard families.
        "gentle": 1.0 if few else 0.3,
        "augmentation.clean": 0.3,
        "clean_until": 0.0,
        "ramp_epochs": 3,
    }
