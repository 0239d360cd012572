"""The settings of a training, read from a TOML file; every key is also an option."""

import argparse
import json
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from training.augmentation.policy import Augmentation
from training.data.split import FOLDS
from training.exceptions import ConfigError
from training.settings import Parser, nearest, setting

AUTO = "auto"
"""The recipe whose settings `training.fit.plan` chooses by the data; other recipes are files."""

RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The settings of a training; the defaults are the recipe of the Keras example of the model."""

    name: str = setting("captcha", "the model's name, with which the name of the run's folder ends")
    data: str = setting("data", "the data set that `make data` wrote")
    seed: int = setting(42, "seed of weights, order, dropout, distortions and generated pictures")
    architecture: str = setting(
        "crnn", "architecture of the model", ("crnn", "residual-crnn", "residual-crnn-wide")
    )
    width: int = setting(
        0, "width in pixels to which pictures are stretched; 0: 200, or more where labels need it"
    )
    height: int = setting(0, "height in pixels to which pictures are stretched; 0: 50")
    channels: int = setting(1, "1 for gray, 3 for colour")
    init_from: str = setting(
        "", "run or exported model to start from; layers that differ start anew"
    )
    epochs: int = setting(100, "at most this many passes over the training pictures")
    minutes: float = setting(
        0.0, "minutes for training and export; the number of epochs is cut to fit; 0: no limit"
    )
    batch_size: int = setting(16, "pictures per step")
    steps_per_epoch: int = setting(0, "steps of an epoch; 0: enough to show every picture once")
    memory: float = setting(
        1024.0, "MiB for decoded pictures; pictures of larger sets are read when they are needed"
    )
    learning_rate: float = setting(0.001, "learning rate of Adam")
    schedule: str = setting(
        "constant", "how the learning rate falls", ("constant", "cosine", "plateau")
    )
    warmup_steps: int = setting(0, "steps in which the learning rate first rises from 0")
    plateau_patience: int = setting(5, "plateau waits this many epochs without a lower figure")
    plateau_factor: float = setting(0.5, "factor by which plateau multiplies the learning rate")
    dropout: float = setting(0.2, "share of features dropped: after dense1, or in every block")
    lstm_dropout: float = setting(0.25, "share of the LSTMs' inputs dropped")
    average: float = setting(
        0.0, "momentum of a moving average of the weights, which is validated and kept; 0: none"
    )
    monitor: str = setting("val_loss", "the validation figure to minimise", ("val_loss", "val_cer"))
    patience: int = setting(10, "stop after this many epochs without a lower figure")
    learned: float = setting(
        0.0,
        "stop when this share of the labelled pictures is read and the learning rate has come "
        "down: more epochs would learn them by heart; 0: never. Validation then uses the "
        "training pictures",
    )
    interpolated: bool = setting(
        False,
        "after training, move the weights back towards the starting weights, as far as that lowers "
        "the loss on pictures that were not trained on",
    )
    keep_last: bool = setting(False, "keep the last epoch instead of the best")
    labels: int = setting(0, "labelled pictures to train on, drawn by the seed; 0: all")
    shown: int = setting(
        0, "labelled pictures in an epoch; fewer are repeated to about this number"
    )
    fold: int = setting(10, "which tenth of the pictures is the test split, 1 to 10")
    half: int = setting(0, "1 or 2 leaves out this half of the labelled pictures; 0: none")
    cross_fit: bool = setting(
        False,
        "after training, also train on each half of the labelled pictures, if there is time for as "
        "many steps again; the readings of the other half calibrate the confidences",
    )
    train_on_validation: bool = setting(
        False, "train on the validation split too; then the last epoch is kept instead of the best"
    )
    aligned_epochs: int = setting(
        0, "first epochs, trained with the places of characters in generated pictures"
    )
    strength: float = setting(0.0, "strength of distortions, 0 to 1; 0: no distortions")
    clean_until: float = setting(0.5, "pictures stay clean until this share is read exactly")
    ramp_epochs: int = setting(15, "epochs in which the strength then rises to its full value")
    gentle: float = setting(
        1.0, "share of the strength until most clean pictures are read; then it rises to 1"
    )
    generated: int = setting(0, "generated pictures added to the distorted ones")
    spliced: float = setting(
        0.0,
        "chance that a labelled picture is joined with others between its characters, and its "
        "characters are turned",
    )
    backgrounds: int = setting(
        0, "pictures without text added to each distorted epoch, new ones every time"
    )
    export: bool = setting(True, "export the finished run to ONNX, into its folder")
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for key, low in _AT_LEAST.items():
            if getattr(self, key) < low:
                raise ConfigError(f"{key} is {getattr(self, key)}; it must be at least {low}.")
        for key in ("dropout", "lstm_dropout", "average"):
            if not 0 <= getattr(self, key) < 1:
                raise ConfigError(
                    f"{key} is {getattr(self, key)}; it must be at least 0 and below 1."
                )
        for key in ("strength", "gentle", "clean_until", "plateau_factor", "learned", "spliced"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"{key} is {getattr(self, key)}; it must be 0 to 1.")
        if not 1 <= self.fold <= FOLDS:
            raise ConfigError(f"fold is {self.fold}; it must be 1 to {FOLDS}.")
        if self.half not in (0, 1, 2):
            raise ConfigError(f"half is {self.half}; it must be 0, 1 or 2.")
        if self.channels not in (1, 3):
            raise ConfigError(f"channels is {self.channels}; it must be 1 or 3.")
        for name, item in _settings():
            choices = item.metadata["choices"]
            if choices and getattr(self, name) not in choices:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}; it must be {' or '.join(choices)}."
                )
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate is {self.learning_rate}; it must be above 0.")
        for name, amount in asdict(self.augmentation).items():
            if amount < 0:
                raise ConfigError(f"augmentation.{name} is {amount}; it must be at least 0.")

    def by_name(self) -> dict[str, object]:
        """Every setting by its dotted name."""
        values = asdict(self)
        table = values.pop("augmentation")
        return values | {f"augmentation.{key}": value for key, value in table.items()}

    def lines(self) -> list[str]:
        """The settings as TOML, a line each."""
        # A string, number or truth value is written the same in JSON and TOML.
        return [f"{name} = {json.dumps(value)}\n" for name, value in self.by_name().items()]

    def save(self, path: Path) -> None:
        """Writes the settings as TOML."""
        path.write_text("".join(self.lines()), encoding="utf-8")


_AT_LEAST = {
    "width": 0,
    "height": 0,
    "aligned_epochs": 0,
    "generated": 0,
    "backgrounds": 0,
    "labels": 0,
    "shown": 0,
    "steps_per_epoch": 0,
    "memory": 0,
    "minutes": 0,
    "epochs": 1,
    "batch_size": 1,
    "patience": 1,
    "plateau_patience": 1,
    "warmup_steps": 0,
    "ramp_epochs": 1,
}

_RETIRED = {"precision", "pretrain", "xla"}
"""Settings of earlier versions, which old runs still have."""

_TYPE_NAMES: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _settings() -> Iterator[tuple[str, "Field[Any]"]]:
    """Every setting with its dotted name."""
    for item in fields(TrainConfig):
        if item.name != "augmentation":
            yield item.name, item
    for item in fields(Augmentation):
        yield f"augmentation.{item.name}", item


def load_config(path: Path, overrides: Mapping[str, Any]) -> TrainConfig:
    """The settings of a TOML file, with `overrides` by dotted name on top.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or of another type.
    """
    return config_from(read_settings(path) | dict(overrides))


def config_from(values: Mapping[str, Any]) -> TrainConfig:
    """The settings with these values by dotted name; all others have their defaults."""
    prefix = "augmentation."
    inner = {key[len(prefix) :]: v for key, v in values.items() if key.startswith(prefix)}
    outer = {key: v for key, v in values.items() if not key.startswith(prefix)}
    return TrainConfig(**outer, augmentation=Augmentation(**inner))


def read_settings(path: Path) -> dict[str, Any]:
    """The values in a TOML file by dotted name.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or of another type.
    """
    try:
        loaded = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    table = loaded.pop("augmentation", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: augmentation is {table!r}; it must be a table.")
    for key in _RETIRED & loaded.keys():
        del loaded[key]
    if isinstance(cosine := loaded.get("cosine"), bool):
        # Older runs have no other schedule.
        del loaded["cosine"]
        loaded.setdefault("schedule", "cosine" if cosine else "constant")
    values = loaded | {f"augmentation.{key}": value for key, value in table.items()}
    return {key: _checked(path, key, value) for key, value in values.items()}


def recipe_path(name: str) -> Path:
    """The file of a recipe in `RECIPES`, by its name.

    Raises:
        ConfigError: there is no such recipe; names the nearest recipes.
    """
    known = {path.stem: path for path in RECIPES.glob("*.toml")}
    if name not in known:
        raise ConfigError(f"there is no recipe {name}; {nearest(name, (AUTO, *known))}")
    return known[name]


def _checked(path: Path, key: str, value: Any) -> Any:
    types = {name: item.type for name, item in _settings()}
    if key not in types:
        raise ConfigError(f"{path}: unknown setting {key}; {nearest(key, types)}")
    if types[key] is float and type(value) is int:
        return float(value)
    if type(value) is not types[key]:
        raise ConfigError(f"{path}: {key} is {value!r}; it must be {_TYPE_NAMES[types[key]]}.")
    return value


def add_config_options(parser: Parser, recipe: str, shown: Collection[str] = ()) -> None:
    """Adds `--recipe`, `--config`, `--settings` and an option for each setting to the parser.

    Args:
        recipe: the default recipe.
        shown: the settings that `--help` describes; `--settings` lists all.
    """
    parser.add_argument("--recipe", default=recipe, help="default: %(default)s")
    parser.add_argument("--config", type=Path, help="a TOML file of settings instead of a recipe")
    parser.add_argument("--settings", action=_ListSettings, nargs=0, help="list all settings")
    for name, item in _settings():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            type=_truth if item.type is bool else item.type,
            default=argparse.SUPPRESS,
            choices=item.metadata["choices"] or None,
            help=item.metadata["help"] if name in shown else argparse.SUPPRESS,
        )


class _ListSettings(argparse.Action):
    """Prints every setting with its default and meaning, and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        for name, item in _settings():
            choices = item.metadata["choices"]
            among = f" ({', '.join(choices)})" if choices else ""
            print(
                f"--{name.replace('_', '-'):29} {item.default!s:9} {item.metadata['help']}{among}"
            )
        parser.exit()


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"


def overrides_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings given on a command line, by dotted name."""
    names = {name for name, _ in _settings()}
    return {key: value for key, value in vars(arguments).items() if key in names}


def config_of(arguments: argparse.Namespace) -> TrainConfig:
    """The settings that a command line asks for; the recipe must not be `AUTO`.

    Raises:
        ConfigError: the settings are invalid.
    """
    path = arguments.config or recipe_path(arguments.recipe)
    return load_config(path, overrides_of(arguments))
