import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.data.dataset import Dataset
from training.data.prepare import prepare
from training.exceptions import RunError
from training.fit.base_file import read_base
from training.fit.config import load_config, recipe_path
from training.fit.plan import choose


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The file of a base that knows three symbols, with two arrays of one layer."""
    facts = {"architecture": "residual-crnn-wide", "alphabet": "AB7", "channels": 3}
    half = np.float16
    arrays: dict[str, Any] = {"dense2/1": np.ones(4, half), "dense2/0": np.ones((2, 4), half)}
    with (tmp_path / "base.npz").open("wb") as file:
        np.savez(file, facts=np.array(json.dumps(facts)), **arrays)
    return tmp_path / "base.npz"


def many(dataset: Dataset, count: int) -> Dataset:
    """The data set with its samples repeated under other digests."""
    dataset.samples = [
        replace(dataset.samples[number % 40], sha256=f"{number:064}") for number in range(count)
    ]
    return dataset


def test_a_base_is_read(base: Path) -> None:
    """The arrays are in the order of Keras, and are converted to float32."""
    found = read_base(base)
    assert (found.architecture, found.alphabet, found.channels) == ("residual-crnn-wide", "AB7", 3)
    assert [array.shape for array in found.layers["dense2"]] == [(2, 4), (4,)]
    assert found.layers["dense2"][0].dtype == np.float32


def test_a_base_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "base.npz").write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"base\.npz cannot be read as a base"):
        read_base(tmp_path / "base.npz")


def test_few_labels_are_all_trained_on(dataset: Dataset, base: Path) -> None:
    """No picture is used for validation, and the last weights are kept; ten minutes are enough.

    The halves calibrate the confidences. All distortions are strong from the start.
    """
    plan = choose(dataset, {}, base)
    config = plan.config
    assert (config.init_from, config.architecture) == (str(base), "residual-crnn-wide")
    assert config.train_on_validation
    assert config.cross_fit
    assert config.gentle == 1.0
    assert config.spliced == 0
    assert config.keep_last
    assert config.minutes == 10
    assert plan.explanation.startswith(
        "36 labelled pictures to train on, 2 to 3 characters of 3 symbols"
    )


def test_with_many_labels_a_tenth_is_used_for_validation(
    dataset: Dataset, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a hundred labels on, validation decides when to stop; more labels get more time.

    A large validation split also decides which epoch is kept.
    """
    picture = dataset.read(dataset.samples[0])
    monkeypatch.setattr(Dataset, "read", lambda self, sample: picture)
    configs = [choose(many(dataset, count), {}, base).config for count in (200, 900, 1100)]
    assert not any(config.train_on_validation or config.cross_fit for config in configs)
    assert [config.minutes for config in configs] == [15, 30, 30]
    assert [config.gentle for config in configs] == [0.3] * 3
    assert all(config.spliced for config in configs)
    assert [config.keep_last for config in configs] == [True, True, False]


def test_options_override_the_plan(dataset: Dataset, base: Path) -> None:
    """The number of labels to use is such an option."""
    asked = {"epochs": 3, "channels": 3, "minutes": 5.0, "labels": 8}
    plan = choose(dataset, asked, base)
    assert {key: getattr(plan.config, key) for key in asked} == asked
    assert plan.explanation.startswith("8 labelled pictures")


def test_without_a_base_training_is_from_scratch(dataset: Dataset, tmp_path: Path) -> None:
    """The plan has the settings of the recipe `robust`, and a time limit."""
    plan = choose(dataset, {}, tmp_path / "none.npz")
    robust = load_config(recipe_path("robust"), {})
    assert plan.config == replace(robust, minutes=10.0)
    assert "trains from scratch" in plan.explanation


def test_colour_is_used_where_gray_loses_the_text(tmp_path: Path, base: Path) -> None:
    """Red on green of the same luma needs colour; black on white does not."""
    for name, ink, paper in (("gray", (0, 0, 0), (255, 255, 255)), ("c", (250, 0, 0), (0, 127, 0))):
        folder = tmp_path / name
        folder.mkdir()
        for number in range(20):
            image = Image.new("RGB", (60, 20), paper)
            image.paste(ink, (5 + number, 5, 15 + number, 15))
            image.save(folder / f"{'abcdefghijklmnopqrst'[number]}z.png")
        prepare(folder, tmp_path / f"data-{name}", accept=True)
    channels = [
        choose(Dataset(tmp_path / f"data-{name}"), {}, base).config.channels
        for name in ("gray", "c")
    ]
    assert channels == [1, 3]


def test_another_architecture_is_trained_from_scratch(dataset: Dataset, base: Path) -> None:
    """The weights of the base fit only the architecture of the base."""
    plan = choose(dataset, {"architecture": "crnn"}, base)
    assert (plan.config.architecture, plan.config.init_from) == ("crnn", "")
    assert "trains from scratch, since the base is a residual-crnn-wide" in plan.explanation


def test_a_training_can_start_from_another_model(dataset: Dataset, base: Path) -> None:
    """That model is fine-tuned as the base would be."""
    config = choose(dataset, {"init_from": "models/captcha.onnx"}, base).config
    assert (config.architecture, config.init_from) == ("residual-crnn", "models/captcha.onnx")
    assert config.aligned_epochs == 0
