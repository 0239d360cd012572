"""Starts a model with the weights of a run or of an exported model, wherever they fit.

Layers of the same name and shape keep their weights. Of the output layer, the classes of symbols
that both alphabets have keep theirs, and the blank; other symbols start anew.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from service.ocr.exceptions import OcrError
from service.ocr.recognizer import Recognizer
from training.architectures import build_model
from training.config import TrainConfig
from training.exceptions import RunError
from training.model import OUTPUT_LAYER, build_crnn
from training.runs import Run

Arrays = list[NDArray[np.float32]]


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
        model = build_crnn(metadata.width, metadata.height, len(metadata.alphabet) + 1)
        return cls(weights_in(onnx.load(path).graph, model, path), metadata.alphabet)

    def put_into(self, model: keras.Model, alphabet: str) -> list[str]:
        """Sets the weights of a model that has `alphabet`; gives the layers that start anew."""
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
        return anew

    def _common_classes(self, alphabet: str) -> Iterator[tuple[int, int]]:
        """The places of a symbol in both alphabets; the blank is the last class of each."""
        for place, symbol in enumerate(alphabet):
            if symbol in self.alphabet:
                yield self.alphabet.index(symbol), place
        yield len(self.alphabet), len(alphabet)


def weights_in(graph: onnx.GraphProto, model: keras.Model, path: Path) -> dict[str, Arrays]:
    """The weights of an exported graph, put back as Keras has them.

    Args:
        model: one of the same architecture, for the names and kinds of its layers.
        path: where the graph came from, for the error.

    Raises:
        RunError: the graph does not have the layers of the model.
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
            else:
                weights = _plain_weights(layer.name, graph, arrays)
        except (StopIteration, LookupError):
            weights = []
        if [a.shape for a in weights] != [tuple(weight.shape) for weight in layer.weights]:
            raise RunError(
                f"{path} does not hold the layer {layer.name} as `make export-onnx` writes it; "
                "start from the run that it was exported from instead."
            )
        found[layer.name] = weights
    return found


def _plain_weights(
    name: str, graph: onnx.GraphProto, arrays: Mapping[str, NDArray[np.float32]]
) -> Arrays:
    """Kernel and bias of a convolution or dense layer, which tf2onnx names after the layer."""
    inside = re.compile(rf"(^|/){re.escape(name)}(_\d+)?/")
    kernel, bias = None, None
    for node in graph.node:
        used = [arrays[i] for i in node.input if i in arrays and inside.search(i)]
        if node.op_type == "Conv" and used:
            # From (out, in, rows, columns).
            kernel, bias = used[0].transpose(2, 3, 1, 0), used[1]
        elif node.op_type == "MatMul" and used:
            kernel = used[0]
        elif node.op_type == "Add" and used:
            bias = used[0]
    if kernel is None or bias is None:
        raise LookupError(name)
    return [kernel, bias]


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
