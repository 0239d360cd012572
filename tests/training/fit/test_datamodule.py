from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.ocr.decoding.ctc import CtcCodec
from training.data.dataset import Dataset
from training.data.split import split_by_content
from training.exceptions import ConfigError
from training.fit.config import TrainConfig
from training.fit.datamodule import Material, gather, labelled_samples


def gathered(config: TrainConfig) -> Material:
    dataset = Dataset(Path(config.data))
    codec = CtcCodec("7AB", blank_index=3)
    return gather(config, dataset, split_by_content(dataset.samples), (48, 16), codec)


def test_the_seed_chooses_the_labelled_pictures(dataset: Dataset) -> None:
    """The pictures come from the training split; another seed chooses other pictures."""
    splits = split_by_content(dataset.samples)
    first, again, other = (
        labelled_samples(TrainConfig(labels=8, seed=seed), splits) for seed in (1, 1, 2)
    )
    assert len(first) == 8
    assert set(first) <= set(splits["train"])
    assert first == again != other


def test_more_labels_than_the_training_split_has_are_refused(dataset: Dataset) -> None:
    """The error says how many there are."""
    splits = split_by_content(dataset.samples)
    with pytest.raises(ConfigError, match="labels is 99; the training split has 32"):
        labelled_samples(TrainConfig(labels=99), splits)


def test_the_validation_split_may_be_trained_on(dataset: Dataset) -> None:
    """On request, training adds the validation split, but never the test split."""
    splits = split_by_content(dataset.samples)
    samples = labelled_samples(TrainConfig(train_on_validation=True), splits)
    assert samples == splits["train"] + splits["validation"]


def test_few_labelled_pictures_are_repeated_and_generated_pictures_added(
    config: TrainConfig,
) -> None:
    """Four pictures come three times each; distorted epochs add eight generated pictures."""
    material = gathered(replace(config, labels=4, shown=11, generated=8))
    assert len(material.feed.clean.texts) == 12
    assert len(material.feed.rough.texts) == 20
    assert len(set(material.feed.clean.texts)) <= 4
    assert material.clean == 4, "the validation split keeps its size"
    assert len(material.validation.texts) == 8, "clean, then distorted"


def test_aligned_epochs_have_only_generated_pictures(config: TrainConfig) -> None:
    """Each picture has a class for every time step."""
    material = gathered(replace(config, aligned_epochs=1))
    assert material.aligned.clean.labels.shape == (config.generated, 48 // 4)
    pictures = np.asarray(material.aligned.clean.pictures)
    assert np.array_equal(pictures, np.asarray(material.feed.rough.pictures)[-config.generated :])


def test_aligned_epochs_need_generated_pictures(config: TrainConfig) -> None:
    """Without generated pictures, an aligned epoch has nothing to train on."""
    with pytest.raises(ConfigError, match="aligned_epochs needs generated pictures"):
        gathered(replace(config, generated=0, aligned_epochs=1))
