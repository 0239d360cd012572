import argparse
from pathlib import Path

import pytest

from training.config import TrainConfig, add_config_options, config_of, load_config
from training.exceptions import ConfigError

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


def parse(*arguments: str) -> TrainConfig:
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    return config_of(parser.parse_args(arguments))


def test_the_seed_recipe_is_the_default() -> None:
    """The recipe says what the tutorial does, and so do the defaults."""
    config = load_config(RECIPES / "seed.toml", {})
    assert config == TrainConfig()
    assert (config.epochs, config.batch_size, config.patience) == (100, 16, 10)
    assert (config.learning_rate, config.dropout, config.generated) == (0.001, 0.2, 0)


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_can_be_used(recipe: Path) -> None:
    """A recipe has only settings that exist."""
    load_config(recipe, {})


def test_the_command_line_wins_over_the_file() -> None:
    """Every setting is an option; what is not passed stays as the file says."""
    config = parse("--config", str(RECIPES / "bundled.toml"), "--epochs", "3", "--dropout", "0.1")
    assert (config.epochs, config.dropout, config.generated) == (3, 0.1, 832)


def test_settings_survive_saving(tmp_path: Path) -> None:
    """What a run saved is what it was started with."""
    config = TrainConfig(name='q"uote', learning_rate=1e-5, generated=7)
    config.save(tmp_path / "config.toml")
    assert load_config(tmp_path / "config.toml", {}) == config


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("epoch = 3", "unknown setting epoch; did you mean epochs?"),
        ("zzz = 3", "unknown setting zzz; known are"),
        ('epochs = "3"', "epochs is '3'; it must be a whole number"),
        ("epochs = 3.5", "epochs is 3.5; it must be a whole number"),
        ("epochs = true", "epochs is True"),
        ("epochs = 0", "epochs is 0; it must be at least 1"),
        ("dropout = 1", "dropout is 1.0; it must be at least 0 and below 1"),
        ("learning_rate = -1", "learning_rate is -1.0; it must be above 0"),
        ("epochs 3", "cannot be read as TOML"),
    ],
)
def test_bad_settings(line: str, sentence: str, tmp_path: Path) -> None:
    """A setting that cannot be is refused with what would be right."""
    (tmp_path / "bad.toml").write_text(line)
    with pytest.raises(ConfigError) as refused:
        load_config(tmp_path / "bad.toml", {})
    assert sentence in str(refused.value)
