"""The settings of one training run: a TOML file, every key of which is also an option."""

import argparse
import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from training.exceptions import ConfigError


def _setting(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The defaults are the recipe of the Keras example that the model comes from."""

    name: str = _setting("captcha", "the model's name, and the end of the run folder's")
    data: str = _setting("data", "the data set that `make data` wrote")
    seed: int = _setting(
        42, "of the weights, the order of pictures, dropout and generated pictures"
    )
    width: int = _setting(
        0, "picture width the model takes, in pixels; 0: most frequent in the data"
    )
    height: int = _setting(0, "picture height, likewise")
    generated: int = _setting(0, "generated pictures that are added to the training split")
    epochs: int = _setting(100, "at most this many passes over the training split")
    batch_size: int = _setting(16, "pictures per step")
    learning_rate: float = _setting(0.001, "of Adam")
    dropout: float = _setting(0.2, "share of features dropped after dense1")
    lstm_dropout: float = _setting(0.25, "share of the LSTMs' inputs dropped")
    patience: int = _setting(10, "stop after this many epochs without a lower validation loss")

    def __post_init__(self) -> None:
        for key, low in _AT_LEAST.items():
            if getattr(self, key) < low:
                raise ConfigError(f"{key} is {getattr(self, key)}; it must be at least {low}.")
        for key in ("dropout", "lstm_dropout"):
            if not 0 <= getattr(self, key) < 1:
                raise ConfigError(
                    f"{key} is {getattr(self, key)}; it must be at least 0 and below 1."
                )
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate is {self.learning_rate}; it must be above 0.")

    def save(self, path: Path) -> None:
        """Writes the settings as TOML."""
        # The JSON of a string, number or truth value is its TOML too.
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in asdict(self).items()]
        path.write_text("".join(lines), encoding="utf-8")


_AT_LEAST = {
    "width": 0, "height": 0, "generated": 0, "epochs": 1, "batch_size": 1, "patience": 1
}  # fmt: skip


_TYPE_NAMES: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def load_config(path: Path | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """The settings of a TOML file, if one is given, with `overrides` on top.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or of another type.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    types = {field.name: field.type for field in fields(TrainConfig)}
    for key, value in values.items():
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(types)}."
            raise ConfigError(f"{path}: unknown setting {key}; {hint}")
        if types[key] is float and type(value) is int:
            values[key] = float(value)
        elif type(value) is not types[key]:
            raise ConfigError(f"{path}: {key} is {value!r}; it must be {_TYPE_NAMES[types[key]]}.")
    return TrainConfig(**{**values, **overrides})


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Gives the parser `--config` and one option per setting, absent unless passed."""
    parser.add_argument("--config", type=Path, help="a TOML file of the settings below")
    for setting in fields(TrainConfig):
        parser.add_argument(
            f"--{setting.name.replace('_', '-')}",
            type=setting.type,
            default=argparse.SUPPRESS,
            help=f"{setting.metadata['help']} (default: {setting.default})",
        )


def config_of(arguments: argparse.Namespace) -> TrainConfig:
    """The settings that a command line asks for."""
    names = {field.name for field in fields(TrainConfig)}
    overrides = {key: value for key, value in vars(arguments).items() if key in names}
    return load_config(arguments.config, overrides)
