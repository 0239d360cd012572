"""Starts a model with the weights of a run or of an exported model, wherever they fit.

Layers of the same name and shape keep their weights. Of the output layer, the classes of symbols
that both alphabets have keep theirs, and the blank; other symbols start anew.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from service.ocr.exceptions import OcrError
from service.ocr.metadata import ModelMetadata
from service.ocr.recognizer import Recognizer
from training.architectures import ARCHITECTURES, build_model
from training.config import TrainConfig
from training.exceptions import RunError
from training.model import OUTPUT_LAYER
from training.runs import Run
from training.synthetic import generated_tensors

Arrays = list[NDArray[np.float32]]

_PICTURES = 64
"""From which the statistics of a normalisation are taken."""


def with_start_found(config: TrainConfig, runs: Path) -> TrainConfig:
    """The settings with the folder of the run that `init_from` names.

    The newest run of a name may be another by the time that this one is resumed or looked at.

    Raises:
        RunError: there is none.
    """
    if not config.init_from or config.init_from.endswith(".onnx"):
        return config
    return replace(config, init_from=str(Run.find(runs, config.init_from).folder))


@dataclass(frozen=True, slots=True)
class StartingWeights:
    """Weights by the names of layers, as Keras orders them, and the symbols of the classes."""

    layers: Mapping[str, Arrays]
    alphabet: str

    @classmethod
    def find(cls, source: str, runs: Path) -> "StartingWeights":
        """Those of a model file `<name>.onnx`, or of the run of that name or path.

        Raises:
            RunError: there is none, or its weights cannot be read.
        """
        if source.endswith(".onnx"):
            return cls._of_file(Path(source))
        run = Run.find(runs, source)
        facts = run.facts
        classes = len(facts.alphabet) + 1
        model = build_model(run.config.architecture, facts.width, facts.height, classes)
        model.load_weights(run.best_weights)
        return cls(
            {layer.name: layer.get_weights() for layer in model.layers if layer.weights},
            facts.alphabet,
        )

    @classmethod
    def _of_file(cls, path: Path) -> "StartingWeights":
        try:
            metadata = Recognizer.load(path).metadata
        except OcrError as error:
            raise RunError(f"{path} cannot be started from: {error}") from error
        graph = onnx.load(path).graph
        for build in ARCHITECTURES.values():
            model = build(metadata.width, metadata.height, len(metadata.alphabet) + 1)
            weights = weights_in(graph, model)
            if weights is not None:
                return cls(_normalised(model, weights, metadata), metadata.alphabet)
        raise RunError(
            f"{path} is no model as `make export-onnx` writes it; "
            "start from the run that it was exported from instead."
        )

    def put_into(self, model: keras.Model, alphabet: str) -> list[str]:
        """Sets the weights of a model that has `alphabet`; gives the layers that start anew.

        Raises:
            RunError: these are all of them.
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
            elif old and [a.shape for a in old] == [a.shape for a in new]:
                layer.set_weights(old)
            elif new:
                anew.append(layer.name)
        if len(anew) == sum(bool(layer.weights) for layer in model.layers):
            others = " or ".join(sorted(set(ARCHITECTURES) - {model.name}))
            raise RunError(
                f"no layer of the architecture {model.name} has weights to start from there; "
                f"try --architecture {others}."
            )
        return anew

    def _common_classes(self, alphabet: str) -> Iterator[tuple[int, int]]:
        """The places of a symbol in both alphabets; the blank is the last class of each."""
        for place, symbol in enumerate(alphabet):
            if symbol in self.alphabet:
                yield self.alphabet.index(symbol), place
        yield len(self.alphabet), len(alphabet)


def weights_in(graph: onnx.GraphProto, model: keras.Model) -> dict[str, Arrays] | None:
    """The weights of an exported graph, put back as Keras has them.

    The export folds a normalisation into the convolution before it; here it only adds the bias.

    Args:
        model: gives the names and kinds of the layers.

    Returns:
        None where the graph does not have the layers of the model.
    """
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    recurrent = iter([node for node in graph.node if node.op_type == "LSTM"])
    found: dict[str, Arrays] = {}
    for layer in model.layers:
        if not layer.weights:
            continue
        try:
            if isinstance(layer, keras.layers.Bidirectional):
                weights = _recurrent_weights(next(recurrent), arrays)
            elif isinstance(layer, keras.layers.BatchNormalization):
                bias = next(value for name, value in arrays.items() if _inside(layer.name)(name))
                one = np.ones_like(bias)
                weights = [one, bias, 0 * bias, one - np.float32(layer.epsilon)]
            else:
                weights = _plain_weights(layer.name, graph, arrays)
        except (StopIteration, LookupError):
            weights = []
        if [a.shape for a in weights] != [tuple(weight.shape) for weight in layer.weights]:
            return None
        found[layer.name] = weights
    return found


def _normalised(
    model: keras.Model, weights: Mapping[str, Arrays], metadata: ModelMetadata
) -> dict[str, Arrays]:
    """The same weights, but with normalisations that normalise.

    In training they do so by the statistics of each batch. For the model to begin as it was, they
    have to scale and shift back what generated pictures make them normalise.
    """
    for name, arrays in weights.items():
        model.get_layer(name).set_weights(arrays)
    layers = [one for one in model.layers if isinstance(one, keras.layers.BatchNormalization)]
    found = dict(weights)
    if layers:
        pictures, _ = generated_tensors(
            _PICTURES, metadata.alphabet, (3, 8), metadata.width, metadata.height, seed=0
        )
        inputs = keras.Model(model.input, [layer.input for layer in layers]).predict(
            pictures, verbose=0
        )
        for layer, values in zip(layers, inputs, strict=True):
            mean, variance = values.mean(axis=(0, 1, 2)), values.var(axis=(0, 1, 2))
            scale = np.sqrt(variance + layer.epsilon)
            found[layer.name] = [scale, weights[layer.name][1] + mean, mean, variance]
    return found


def _inside(name: str) -> Callable[[str], object]:
    """Tells the arrays of a layer, which tf2onnx names after it."""
    return re.compile(rf"(^|/){re.escape(name)}(_\d+)?/").search


def _plain_weights(
    name: str, graph: onnx.GraphProto, arrays: Mapping[str, NDArray[np.float32]]
) -> Arrays:
    """Kernel and bias, if it has one, of a convolution or dense layer."""
    inside = _inside(name)
    weights: Arrays = []
    for node in graph.node:
        used = [arrays[i] for i in node.input if i in arrays and inside(i)]
        if node.op_type == "Conv" and used:
            # From (out, in, rows, columns).
            weights = [used[0].transpose(2, 3, 1, 0), *used[1:]]
        elif node.op_type in ("MatMul", "Add"):
            weights += used
    return weights


def _recurrent_weights(node: onnx.NodeProto, arrays: Mapping[str, NDArray[np.float32]]) -> Arrays:
    """Kernel, recurrent kernel and bias of both directions of a bidirectional LSTM."""
    weights: Arrays = []
    kernels, recurrents, biases = (arrays[name] for name in node.input[1:4])
    for kernel, recurrent, bias in zip(kernels, recurrents, biases, strict=True):
        # ONNX has two biases, which are added.
        together = bias.reshape(2, -1).sum(axis=0)
        weights += [_gates(kernel).T, _gates(recurrent).T, _gates(together)]
    return weights


def _gates(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """From ONNX' order of the gates (input, output, forget, cell) to Keras' (i, f, c, o)."""
    i, o, f, c = np.split(rows, 4)
    return np.concatenate([i, f, c, o])
