"""Collects the pictures that a run trains and validates on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.ocr.decoding.ctc import CtcCodec
from training.data.dataset import Dataset, Sample
from training.exceptions import ConfigError
from training.fit.config import TrainConfig
from training.fit.loader import Examples, Feed, generated_examples, labelled_examples


@dataclass(frozen=True, slots=True)
class Material:
    """Training pictures, and validation pictures: `clean` ones, then a distorted copy of each."""

    labelled: Examples
    """The labelled training pictures, each once."""
    feed: Feed
    aligned: Feed
    """The pictures of the first epochs, if these train with the places of characters; else equal to
    `feed`."""
    validation: Examples
    clean: int


def gather(
    config: TrainConfig,
    dataset: Dataset,
    splits: Mapping[str, Sequence[Sample]],
    size: tuple[int, int],
    codec: CtcCodec,
) -> Material:
    """Reads and draws the pictures that the settings ask for.

    Args:
        size: width and height of the model's pictures.

    Raises:
        DataError: a picture cannot be read, or the model cannot emit a label.
        ConfigError: the settings leave nothing to train on.
    """
    chosen = labelled_samples(config, splits)
    labelled = labelled_examples(dataset, chosen, *size, codec, config.memory, config.channels)
    generated = None
    if config.generated:
        generated = generated_examples(labelled, config.generated, codec, config.seed)
    elif config.aligned_epochs:
        raise ConfigError("generated is 0; aligned_epochs needs generated pictures.")
    training = labelled.repeated(max(1, round(config.shown / len(chosen))))
    rough = training + generated if generated else training
    shown = chosen if config.learned else splits["validation"]
    validation = labelled_examples(dataset, shown, *size, codec, config.memory, config.channels)
    clean = len(validation.texts)
    if config.strength:
        validation += validation.distorted(config.augmentation, config.seed, config.strength)

    feed = aligned = Feed(
        training, rough, config.backgrounds, config.augmentation, config.batch_size, config.seed,
        config.steps_per_epoch,
    )  # fmt: skip
    if config.aligned_epochs and generated:
        aligned = replace(feed, clean=generated.aligned(), rough=generated.aligned())
    return Material(labelled, feed, aligned, validation, clean)


def labelled_samples(config: TrainConfig, splits: Mapping[str, Sequence[Sample]]) -> list[Sample]:
    """The labelled pictures that a run trains on.

    Raises:
        ConfigError: there are fewer pictures than the settings ask for.
    """
    samples = [*splits["train"]]
    if config.train_on_validation:
        samples += splits["validation"]
    if config.labels > len(samples):
        raise ConfigError(f"labels is {config.labels}; the training split has {len(samples)}.")
    if config.labels:
        order = np.random.default_rng(config.seed).permutation(len(samples))
        samples = [samples[place] for place in sorted(order[: config.labels])]
    # They are ordered by their digests, so every half is a random sample.
    return samples[config.half % 2 :: 2] if config.half else samples
