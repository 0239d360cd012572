"""Computes a model's convolutions in 8-bit integers, which takes less time than 32-bit floats.

Static quantization of Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (2018), as onnxruntime implements it. The LSTMs stay as they
are: onnxruntime can quantize them for the whole batch alone, and what a picture reads as would
depend on the pictures beside it.
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
    """Tensors in small batches, as onnxruntime asks for them."""

    def __init__(self, name: str, tensors: FloatArray) -> None:
        starts = range(0, len(tensors), _BATCH)
        self._feeds: Iterator[dict[str, FloatArray]] = (
            {name: tensors[start : start + _BATCH]} for start in starts
        )

    def get_next(self) -> dict[str, FloatArray] | None:
        """The next batch by the input's name; None behind the last one."""
        return next(self._feeds, None)


def quantize(graph: onnx.ModelProto, tensors: FloatArray) -> onnx.ModelProto:
    """The same model with convolutions in 8-bit integers.

    Args:
        tensors: model inputs, shape (pictures, width, height, channels), that show what values
            occur between the layers.
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
            # Unsigned values have the fast kernels of x86; there, without VNNI, sums of products
            # with weights of all 8 bits overflow.
            activation_type=QuantType.QUInt8,
            reduce_range=True,
        )
        return onnx.load(path)
