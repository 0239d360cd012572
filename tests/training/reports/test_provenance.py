import tomllib
from dataclasses import fields
from pathlib import Path

from training.fit.base_file import BASE
from training.fit.config import RECIPES, TrainConfig, add_config_options, config_of, load_config
from training.fit.runs import Run
from training.reports.provenance import commands_of, fitted_to, settings_of
from training.settings import Parser


def test_the_sentence_names_the_pictures_that_a_model_was_fitted_to() -> None:
    """The sentence also says how the epoch was chosen and the confidences were calibrated."""
    plain = fitted_to(TrainConfig())
    assert plain == (
        "the training split; the validation split chose the epoch, and confidences were calibrated "
        "on the validation split"
    )
    more = fitted_to(TrainConfig(train_on_validation=True, generated=9))
    assert "the training and the validation split, and to 9 generated pictures" in more
    assert "chose" not in more
    assert "calibrated on the test split" in more
    assert "the last epoch was kept" in fitted_to(TrainConfig(keep_last=True))


def test_the_settings_are_valid_toml_without_the_augmentation() -> None:
    """Paths are relative to the project."""
    told = tomllib.loads(settings_of(TrainConfig(seed=7, init_from=str(BASE))))
    assert (told["seed"], told["init_from"]) == (7, "models/base.npz")
    assert set(told) == {item.name for item in fields(TrainConfig)} - {"augmentation"}


def test_the_commands_include_those_of_the_starting_run(run: Run, tmp_path: Path) -> None:
    """The command of the starting run comes first."""
    splits = {split: run.split(split) for split in ("train", "validation", "test")}

    def trained(recipe: str, **others: object) -> Run:
        config = load_config(RECIPES / f"{recipe}.toml", others)
        trained = Run.create(tmp_path, config, run.facts, splits)
        trained.best_weights.touch()
        trained.finish()
        return trained

    first = trained("robust", name="first")
    assert commands_of(first, tmp_path) == (
        '`make data && make train RECIPE=robust ARGS="--name first"`'
    )
    second = trained("robust", init_from=first.name)
    assert commands_of(second, tmp_path) == (
        f"{commands_of(first, tmp_path)}, then `make train FINETUNE={first.name}`"
    )
    assert commands_of(second, run.folder) == f"`make train FINETUNE={first.name}`"


def test_the_commands_have_the_settings_that_differ_from_the_recipe(
    run: Run, tmp_path: Path
) -> None:
    """As options of `make train`, these settings give the same training again."""
    splits = {split: run.split(split) for split in ("train", "validation", "test")}
    others = {"train_on_validation": True, "epochs": 3, "augmentation.blur": 0.5}
    config = load_config(RECIPES / "robust.toml", others)
    command = commands_of(Run.create(tmp_path, config, run.facts, splits), tmp_path)
    asked = command.removeprefix('`make data && make train RECIPE=robust ARGS="').removesuffix('"`')
    assert asked == "--epochs 3 --train-on-validation true --augmentation.blur 0.5"
    parser = Parser("train", None)
    add_config_options(parser, "seed")
    arguments = parser.parse_args(["--config", str(RECIPES / "robust.toml"), *asked.split()])
    assert config_of(arguments) == config
