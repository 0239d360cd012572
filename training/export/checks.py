"""Checks an exported graph: fused LSTMs, the same results as Keras, accuracy when quantized."""

from collections import Counter

import keras
import numpy as np
import onnx

from service.ocr.preprocessing import FloatArray
from service.ocr.recognizer import Recognizer
from training.exceptions import ExportError

_BATCH_SIZES = (1, 7, 32)
TOLERANCE = 1e-4
"""Largest difference of a probability between Keras and ONNX that is allowed."""
MOST_LOST = 0.005
"""Largest share of test pictures that quantization may lose."""


def check_graph(graph: onnx.ModelProto, model: keras.Model) -> None:
    """Checks that every bidirectional LSTM of a model became one fused node of its graph.

    Raises:
        ExportError: some LSTM was not fused, and would run as a slow loop over time steps.
    """
    onnx.checker.check_model(graph)
    expected = sum(isinstance(layer, keras.layers.Bidirectional) for layer in model.layers)
    operators = Counter(node.op_type for node in graph.graph.node)
    fused = sum(
        attribute.s == b"bidirectional"
        for node in graph.graph.node
        if node.op_type == "LSTM"
        for attribute in node.attribute
        if attribute.name == "direction"
    )
    loops = operators["Loop"] + operators["Scan"]
    if fused != expected or operators["LSTM"] != fused or loops:
        raise ExportError(
            f"the graph has {operators['LSTM']} LSTM nodes, {fused} of them bidirectional, and "
            f"{loops} loops; it should have {expected} bidirectional nodes and no "
            "loop. Is tf2onnx the pinned version?"
        )


def check_parity(recognizer: Recognizer, tensors: FloatArray, expected: FloatArray) -> None:
    """Checks that the exported model and the Keras model give the same results in every batch size.

    Args:
        expected: the probabilities that the Keras model gives for `tensors`.

    Raises:
        ExportError: a probability differs by `TOLERANCE` or more, or a text differs.
    """
    for batch_size in _BATCH_SIZES:
        starts = range(0, len(tensors), batch_size)
        found = np.concatenate([recognizer.infer(tensors[i : i + batch_size]) for i in starts])
        difference = float(np.abs(found - expected).max())
        if not difference < TOLERANCE:
            raise ExportError(
                f"at batch size {batch_size}, Keras and ONNX differ by up to {difference:.2g}; "
                f"less than {TOLERANCE:g} is allowed."
            )
        for number, (ours, theirs) in enumerate(zip(expected, found, strict=True)):
            by_keras, by_onnx = recognizer.codec.decode(ours), recognizer.codec.decode(theirs)
            if by_keras != by_onnx:
                raise ExportError(
                    f"at batch size {batch_size}, Keras reads test picture {number} as "
                    f"{by_keras!r}, ONNX as {by_onnx!r}."
                )


def check_exact_match(before: float, quantized: float) -> None:
    """Checks that quantization loses at most `MOST_LOST` of the test pictures.

    Args:
        before, quantized: shares of test pictures whose text is right.

    Raises:
        ExportError: quantization loses more.
    """
    if before - quantized > MOST_LOST:
        raise ExportError(
            f"in 8-bit integers the model reads {quantized:.1%} of the test pictures instead of "
            f"{before:.1%}; at most {MOST_LOST:.1%} may be lost. Export it without QUANTIZE."
        )
