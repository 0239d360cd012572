"""Computes a model's convolutions in 8-bit integers, which takes less time than 32-bit floats.

Uses the static quantization of Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference" (2018), as onnxruntime implements it. The LSTMs are not
quantized: onnxruntime would quantize their inputs for the whole batch, and the reading of a picture
would depend on the other pictures in the batch.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from service.ocr.preprocessing import FloatArray

_BATCH = 8


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Gives tensors to onnxruntime in small batches."""

    def __init__(self, name: str, tensors: FloatArray) -> None:
        starts = range(0, len(tensors), _BATCH)
        self._feeds: Iterator[dict[str, FloatArray]] = (
            {name: tensors[start : start + _BATCH]} for start in starts
        )

    def get_next(self) -> dict[str, FloatArray] | None:
        """The next batch by the input's name; None after the last batch."""
        return next(self._feeds, None)


def quantize(graph: onnx.ModelProto, tensors: FloatArray) -> onnx.ModelProto:
    """The same model with convolutions in 8-bit integers.

    Args:
        tensors: model inputs, `(pictures, width, height, channels)`, to measure the range of values
            between the layers.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        quantize_static(
            graph,
            path,
            _Batches(graph.graph.input[0].name, np.asarray(tensors, np.float32)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            # Unsigned values have fast kernels on x86. Without VNNI, sums of products with full
            # 8-bit weights overflow there.
            activation_type=QuantType.QUInt8,
            reduce_range=True,
        )
        return onnx.load(path)
