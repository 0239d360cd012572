"""Reads the base, a model trained on very many styles, from which a training starts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.exceptions import RunError

BASE = Path(__file__).parents[2] / "models" / "base.npz"
"""The file of the base, which `make base` writes."""


@dataclass(frozen=True, slots=True)
class Base:
    """The architecture and alphabet of the base, and its weights by layer in the order of Keras."""

    architecture: str
    alphabet: str
    channels: int
    layers: Mapping[str, list[NDArray[np.float32]]]


def read_base(path: Path) -> Base:
    """Reads the file of a base: arrays called `<layer>/<number>`, and `facts` in JSON.

    Raises:
        RunError: the file cannot be read as a base.
    """
    layers: dict[str, dict[int, NDArray[np.float32]]] = {}
    try:
        with np.load(path) as file:
            facts = json.loads(str(file["facts"]))
            for name in file.files:
                layer, _, number = name.rpartition("/")
                if layer:
                    layers.setdefault(layer, {})[int(number)] = file[name].astype(np.float32)
        return Base(
            facts["architecture"],
            facts["alphabet"],
            facts["channels"],
            {name: [arrays[i] for i in sorted(arrays)] for name, arrays in layers.items()},
        )
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} cannot be read as a base: {error}") from error
