"""Writes the file of the base's weights, which `training.fit.base_file` reads."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from training.base.alphabet import ALPHABET

_LARGE = 1000
"""Arrays with more elements than this are stored in float16."""


def save_weights(path: Path, model: keras.Model, figures: Mapping[str, float]) -> None:
    """Writes a model's weights as arrays `<layer>/<number>`, and its facts in JSON.

    Large arrays are stored in float16, which changes no reading. The arrays of normalisations are
    small and stay in float32: float16 may round a variance to 0.
    """
    arrays: dict[str, Any] = {}
    for layer in model.layers:
        for number, variable in enumerate(layer.weights):
            array = np.asarray(ops.convert_to_numpy(variable), np.float32)
            large = array.size > _LARGE
            arrays[f"{layer.name}/{number}"] = array.astype(np.float16) if large else array
    facts = {
        "architecture": model.name,
        "alphabet": ALPHABET,
        "channels": model.input_shape[-1],
        "width": model.input_shape[1],
        "height": model.input_shape[2],
        "figures": dict(figures),
        "keras": keras.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        np.savez(file, facts=np.array(json.dumps(facts)), **arrays)
    temporary.replace(path)
