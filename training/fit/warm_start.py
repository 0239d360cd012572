"""Starts a model with the weights of the base, a run or an exported model, wherever they fit.

Layers of the same name and shape take over the weights. The output layer takes over the classes of
the blank and of symbols in both alphabets; other symbols start anew. A gray model can start from a
colour model, and a colour model from a gray one; both then read gray pictures alike.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import onnx
from numpy.typing import NDArray

from service.ocr.exceptions import OcrError
from service.ocr.metadata import ModelMetadata
from service.ocr.recognizer import Recognizer
from training.exceptions import RunError
from training.fit.base_file import read_base
from training.fit.onnx_weights import Arrays, normalised, weights_in
from training.fit.runs import Run
from training.models.crnn import OUTPUT_LAYER
from training.models.registry import ARCHITECTURES
from training.synthetic.levels import LUMA


def exported_model(path: Path) -> tuple[keras.Model, ModelMetadata]:
    """The Keras model that a model file was exported from, with its weights.

    Its normalisations only add a bias; see `weights_in`.

    Raises:
        RunError: the file cannot be read, or is no export of a known architecture.
    """
    try:
        metadata = Recognizer.load(path).metadata
    except OcrError as error:
        raise RunError(f"training cannot start from {path}: {error}") from error
    graph = onnx.load(path).graph
    classes = len(metadata.alphabet) + 1
    for build in ARCHITECTURES.values():
        model = build(metadata.width, metadata.height, classes, channels=metadata.channels)
        weights = weights_in(graph, model)
        if weights is not None:
            for name, arrays in weights.items():
                model.get_layer(name).set_weights(arrays)
            return model, metadata
    raise RunError(
        f"{path} is no model as `make export-onnx` writes it; "
        "start from the run that it was exported from instead."
    )


def of_channels(kernel: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """Converts the kernel of a first convolution between one channel and three.

    Args:
        kernel: `(rows, columns, channels, filters)`.
        shape: the shape that is needed.

    Returns:
        None if the shapes differ in more than one channel against three.
    """
    if kernel.shape[:2] != shape[:2] or kernel.shape[3] != shape[3]:
        return None
    match kernel.shape[2], shape[2]:
        case 3, 1:
            # Gives the output for three equal channels.
            return kernel.sum(axis=2, keepdims=True)
        case 1, 3:
            return kernel * LUMA[:, np.newaxis]
    return None


@dataclass(frozen=True, slots=True)
class StartingWeights:
    """Weights by the names of layers, in the order of Keras, and the symbols of the classes."""

    layers: Mapping[str, Arrays]
    alphabet: str

    @classmethod
    def find(cls, source: str, runs: Path) -> "StartingWeights":
        """Reads the weights of an exported model, a base or a run.

        Args:
            source: a path that ends with .onnx or .npz, or the name or path of a run.

        Raises:
            RunError: the source is missing, or its weights cannot be read.
        """
        if source.endswith(".onnx"):
            model, metadata = exported_model(Path(source))
            return cls(normalised(model, metadata), metadata.alphabet)
        if source.endswith(".npz"):
            base = read_base(Path(source))
            return cls(base.layers, base.alphabet)
        run = Run.find(runs, source)
        layers = run.load_model().layers
        weights = {layer.name: layer.get_weights() for layer in layers if layer.weights}
        return cls(weights, run.facts.alphabet)

    def put_into(self, model: keras.Model, alphabet: str) -> list[str]:
        """Sets the weights of a model that has `alphabet`; returns the layers that start anew.

        Raises:
            RunError: every layer would start anew.
        """
        anew = []
        for layer in model.layers:
            old, new = self.layers.get(layer.name), layer.get_weights()
            if layer.name == OUTPUT_LAYER and old and old[0].shape[0] == new[0].shape[0]:
                pairs = list(self._common_classes(alphabet))
                for before, after in zip(old, new, strict=True):
                    for theirs, ours in pairs:
                        after[..., ours] = before[..., theirs]
                layer.set_weights(new)
            elif (
                old
                and old[0].ndim == 4
                and (first := of_channels(old[0], new[0].shape)) is not None
            ):
                layer.set_weights([first, *old[1:]])
            elif old and [a.shape for a in old] == [a.shape for a in new]:
                layer.set_weights(old)
            elif new:
                anew.append(layer.name)
        if len(anew) == sum(bool(layer.weights) for layer in model.layers):
            others = " or ".join(sorted(set(ARCHITECTURES) - {model.name}))
            raise RunError(
                f"no layer of the architecture {model.name} has weights to start from there; "
                f'try ARGS="--architecture {others}".'
            )
        return anew

    def _common_classes(self, alphabet: str) -> Iterator[tuple[int, int]]:
        """The classes, old and new, of common symbols and of the blank, the last class of each."""
        for place, symbol in enumerate(alphabet):
            if symbol in self.alphabet:
                yield self.alphabet.index(symbol), place
        yield len(self.alphabet), len(alphabet)
