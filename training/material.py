"""What a run trains and validates on: labelled pictures, generated ones, or few of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.ocr.ctc import CtcCodec
from training.config import TrainConfig
from training.dataset import Dataset, Sample
from training.exceptions import ConfigError
from training.feed import Examples, Feed, generated_examples, labelled_examples

_DISTORTED_COPIES = 1
"""Of every validation picture, where training distorts its own."""

_PRETRAINING_VALIDATION = 100
"""Generated pictures that a pretraining is validated on."""


@dataclass(frozen=True, slots=True)
class Material:
    """The feed of the epochs, and what is validated: `clean` pictures, then distorted copies."""

    feed: Feed
    validation: Examples
    clean: int


def gather(
    config: TrainConfig,
    dataset: Dataset,
    splits: Mapping[str, Sequence[Sample]],
    size: tuple[int, int],
    codec: CtcCodec,
) -> Material:
    """Reads and draws what the settings ask for.

    Args:
        size: width and height of the model's pictures.

    Raises:
        DataError: a picture cannot be read, or a label not be emitted.
        ConfigError: the settings ask for nothing to train on.
    """
    chosen = labelled_samples(config, splits)
    labelled = labelled_examples(dataset, chosen, *size, codec, config.memory)
    if config.pretrain:
        if not config.generated:
            raise ConfigError("pretrain is true and generated 0; how many are to be generated?")
        # The labelled pictures show the manner, and are not trained on.
        training = generated_examples(labelled, config.generated, codec, config.seed)
        validation = generated_examples(labelled, _PRETRAINING_VALIDATION, codec, config.seed + 1)
        rough = training
    else:
        training = labelled.repeated(config.repeats)
        validation = labelled_examples(dataset, splits["validation"], *size, codec, config.memory)
        rough = training
        if config.generated:
            rough = training + generated_examples(labelled, config.generated, codec, config.seed)
    clean = len(validation.texts)
    if config.strength:
        validation += validation.distorted(config.augmentation, _DISTORTED_COPIES, config.seed)
    feed = Feed(
        training, rough, config.backgrounds, config.augmentation, config.batch_size, config.seed,
        config.steps_per_epoch,
    )  # fmt: skip
    return Material(feed, validation, clean)


def labelled_samples(config: TrainConfig, splits: Mapping[str, Sequence[Sample]]) -> list[Sample]:
    """The labelled pictures that a run may look at besides those that it validates on.

    Raises:
        ConfigError: fewer are there than the settings ask for.
    """
    samples = [*splits["train"]]
    if config.train_on_validation:
        samples += splits["validation"]
    if not config.labels or (config.pretrain and config.labels > len(samples)):
        # What only shows the manner may be fewer.
        return samples
    if config.labels > len(samples):
        raise ConfigError(f"labels is {config.labels}; the training split has {len(samples)}.")
    order = np.random.default_rng(config.seed).permutation(len(samples))
    return [samples[place] for place in sorted(order[: config.labels])]
