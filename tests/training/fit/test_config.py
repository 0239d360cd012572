from pathlib import Path

import pytest

from training.augmentation.policy import Augmentation
from training.exceptions import ConfigError
from training.fit.config import RECIPES, TrainConfig, add_config_options, config_of, load_config
from training.settings import Parser


def parse(*arguments: str) -> TrainConfig:
    parser = Parser("train", None)
    add_config_options(parser, "seed")
    return config_of(parser.parse_args(arguments))


def test_the_seed_recipe_is_the_default() -> None:
    """The recipe and the defaults have the settings of the tutorial."""
    config = load_config(RECIPES / "seed.toml", {})
    assert config == TrainConfig()
    assert (config.epochs, config.batch_size, config.patience) == (100, 16, 10)
    assert (config.learning_rate, config.dropout, config.schedule) == (0.001, 0.2, "constant")
    assert (config.strength, config.generated, config.backgrounds) == (0, 0, 0)


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_can_be_loaded(recipe: Path) -> None:
    """A recipe has only settings that exist."""
    load_config(recipe, {})


def test_the_command_line_overrides_the_file() -> None:
    """Every setting is an option; settings that are not passed keep the value in the file."""
    options = ("--epochs", "3", "--schedule", "plateau", "--augmentation.blur", "1.5")
    config = parse("--recipe", "robust", *options)
    assert config == parse("--config", str(RECIPES / "robust.toml"), *options)
    assert (config.epochs, config.schedule, config.augmentation.blur) == (3, "plateau", 1.5)
    assert (config.strength, config.generated) == (1.0, 4000)


def test_saved_settings_are_read_back_unchanged(tmp_path: Path) -> None:
    """A finished run has the settings that its training was started with."""
    rough = Augmentation(rotation=3.5, jpeg=0.0)
    config = TrainConfig(name='q"uote', learning_rate=1e-5, schedule="cosine", augmentation=rough)
    config.save(tmp_path / "config.toml")
    assert load_config(tmp_path / "config.toml", {}) == config


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("epoch = 3", "unknown setting epoch; did you mean epochs or"),
        ("zzz = 3", "unknown setting zzz; known are"),
        ('epochs = "3"', "epochs is '3'; it must be a whole number"),
        ("epochs = 3.5", "epochs is 3.5; it must be a whole number"),
        ("epochs = true", "epochs is True"),
        ("epochs = 0", "epochs is 0; it must be at least 1"),
        ("dropout = 1", "dropout is 1.0; it must be at least 0 and below 1"),
        ("learning_rate = -1", "learning_rate is -1.0; it must be above 0"),
        ("schedule = 1", "schedule is 1; it must be text"),
        (
            'schedule = "step"',
            "schedule is 'step'; it must be constant or cosine or plateau",
        ),
        ('monitor = "loss"', "monitor is 'loss'; it must be val_loss or val_cer"),
        ("warmup_steps = -1", "warmup_steps is -1; it must be at least 0"),
        ("strength = 2", "strength is 2.0; it must be 0 to 1"),
        ('architecture = "rcnn"', "architecture is 'rcnn'; it must be crnn or residual-crnn or"),
        ("augmentation = 3", "augmentation is 3; it must be a table"),
        (
            "[augmentation]\nblurr = 3",
            "unknown setting augmentation.blurr; did you mean augmentation.blur or",
        ),
        ("[augmentation]\nblur = -1", "augmentation.blur is -1.0; it must be at least 0"),
        ("epochs 3", "cannot be read as TOML"),
    ],
)
def test_bad_settings_are_refused(line: str, sentence: str, tmp_path: Path) -> None:
    """The error says what would be right."""
    (tmp_path / "bad.toml").write_text(line)
    with pytest.raises(ConfigError) as refused:
        load_config(tmp_path / "bad.toml", {})
    assert sentence in str(refused.value)


@pytest.mark.parametrize(("cosine", "schedule"), [("true", "cosine"), ("false", "constant")])
def test_the_settings_of_runs_without_schedules_are_understood(
    cosine: str, schedule: str, tmp_path: Path
) -> None:
    """Old runs have a boolean `cosine` instead."""
    (tmp_path / "config.toml").write_text(f"cosine = {cosine}\n")
    assert load_config(tmp_path / "config.toml", {}).schedule == schedule


def test_removed_settings_of_old_runs_are_ignored(tmp_path: Path) -> None:
    """Such runs can still be exported and started from."""
    (tmp_path / "config.toml").write_text('pretrain = false\nxla = "auto"\nepochs = 3\n')
    assert load_config(tmp_path / "config.toml", {}) == TrainConfig(epochs=3)
