"""Reads the weights of an exported graph in the layout of Keras."""

import re
from collections.abc import Callable, Mapping

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from service.ocr.metadata import ModelMetadata
from training.synthetic.generate import generated_tensors

Arrays = list[NDArray[np.float32]]
"""The weights of a layer, in the order of Keras."""

_PICTURES = 64
"""Generated pictures for the statistics of normalisations."""


def weights_in(graph: onnx.GraphProto, model: keras.Model) -> dict[str, Arrays] | None:
    """The weights of an exported graph, in the layout of Keras.

    The export folds a normalisation into the convolution before it, so the normalisation here only
    adds a bias.

    Args:
        model: gives the names and kinds of the layers.

    Returns:
        None if the graph does not have the layers of the model.
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


def normalised(model: keras.Model, metadata: ModelMetadata) -> dict[str, Arrays]:
    """The weights of an exported model, with normalisations that normalise again.

    In training, a normalisation uses the statistics of each batch. So that the model starts with
    the same outputs, its scale and shift undo the normalisation of generated pictures.
    """
    found = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    layers = [one for one in model.layers if isinstance(one, keras.layers.BatchNormalization)]
    if layers:
        pictures, _ = generated_tensors(
            _PICTURES, metadata.alphabet, (3, 8), metadata.width, metadata.height, seed=0
        )
        pictures = np.repeat(pictures, metadata.channels, axis=3)
        inputs = keras.Model(model.input, [layer.input for layer in layers]).predict(
            pictures, verbose=0
        )
        for layer, values in zip(layers, inputs, strict=True):
            mean, variance = values.mean(axis=(0, 1, 2)), values.var(axis=(0, 1, 2))
            scale = np.sqrt(variance + layer.epsilon)
            found[layer.name] = [scale, found[layer.name][1] + mean, mean, variance]
    return found


def _inside(name: str) -> Callable[[str], object]:
    """A test whether an array belongs to a layer; tf2onnx names arrays after their layer."""
    return re.compile(rf"(^|/){re.escape(name)}(_\d+)?/").search


def _plain_weights(
    name: str, graph: onnx.GraphProto, arrays: Mapping[str, NDArray[np.float32]]
) -> Arrays:
    """The kernel, and the bias if there is one, of a convolution or dense layer."""
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
        # ONNX has two biases, and adds them.
        together = bias.reshape(2, -1).sum(axis=0)
        weights += [_gates(kernel).T, _gates(recurrent).T, _gates(together)]
    return weights


def _gates(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reorders gates from ONNX (input, output, forget, cell) to Keras (i, f, c, o)."""
    i, o, f, c = np.split(rows, 4)
    return np.concatenate([i, f, c, o])
