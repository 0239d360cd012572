"""What the served model takes and gives by the protocol, and the two ways from one to the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.api.v2.messages import InferenceRequest
from service.api.v2.tensors import BYTES, FP32, MalformedTensorError, Tensor, echo
from service.ocr.decoding.decoder import Reading
from service.ocr.exceptions import PictureError
from service.ocr.metadata import ModelMetadata

PICTURE, TEXT, CONFIDENCE = "picture", "text", "confidence"
"""The input of encoded pictures, and the outputs that they are read to."""

PLATFORM = "onnxruntime_onnx"


def described(model: ModelMetadata) -> dict[str, Any]:
    """The members of `schemas.ServedModel`; -1 is a length that varies."""
    image = {"name": model.input_name, "datatype": FP32, "shape": [-1, *_size(model)]}
    rows = {
        "name": model.output_name,
        "datatype": FP32,
        "shape": [-1, -1, len(model.alphabet) + 1],
    }
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": PLATFORM,
        "inputs": [image, {"name": PICTURE, "datatype": BYTES, "shape": [-1]}],
        "outputs": [
            rows,
            {"name": TEXT, "datatype": BYTES, "shape": [-1]},
            {"name": CONFIDENCE, "datatype": FP32, "shape": [-1]},
        ],
    }


def checked(request: InferenceRequest, model: ModelMetadata, most: int, largest: int) -> Tensor:
    """The one input of a request that the model can answer.

    Args:
        most: pictures in it.
        largest: bytes of an encoded picture.

    Raises:
        MalformedTensorError: it is another request.
    """
    image = f"{model.input_name!r} (FP32 of the shape [n, {', '.join(map(str, _size(model)))}])"
    how = f"send {image} or {PICTURE!r} (BYTES of the shape [n])"
    names = [tensor.name for tensor in request.inputs]
    if names not in ([model.input_name], [PICTURE]):
        raise MalformedTensorError(f"the inputs are {echo(names)}; {how}.")
    (tensor,) = request.inputs
    fits = (
        tensor.datatype == BYTES
        if tensor.name == PICTURE
        else tensor.datatype == FP32 and tensor.shape[1:] == _size(model)
    )
    if not fits:
        raise MalformedTensorError(
            f"{tensor.name} is {tensor.datatype} of the shape {tensor.shape}; {how}."
        )
    if not 1 <= tensor.shape[0] <= most:
        raise MalformedTensorError(
            f"{tensor.name} has {tensor.shape[0]} pictures; send 1 to {most}."
        )
    if tensor.datatype == BYTES:
        _check_sizes(tensor.values, largest)
    offered = outputs_of(tensor, model)
    for name in request.outputs:
        if name not in offered:
            raise MalformedTensorError(
                f"there is no output {echo(name)} of {tensor.name}; there is {', '.join(offered)}."
            )
    return tensor


def outputs_of(tensor: Tensor, model: ModelMetadata) -> tuple[str, ...]:
    """The outputs that an input is inferred to."""
    return (TEXT, CONFIDENCE) if tensor.datatype == BYTES else (model.output_name,)


def from_probabilities(rows: Sequence[Any], model: ModelMetadata) -> list[Tensor]:
    """The output for an image tensor: `(n, time steps, classes)`."""
    return [Tensor(model.output_name, FP32, np.stack(rows))]


def from_readings(readings: Sequence[Reading | PictureError]) -> list[Tensor]:
    """The outputs for pictures.

    Raises:
        MalformedTensorError: one of them could not be read.
    """
    texts, confidences = [], []
    for index, reading in enumerate(readings):
        if isinstance(reading, PictureError):
            raise MalformedTensorError(f"{PICTURE}: element {index}: {reading}")
        texts.append(reading.text.encode())
        confidences.append(reading.confidence)
    return [
        Tensor(TEXT, BYTES, texts),
        Tensor(CONFIDENCE, FP32, np.array(confidences, np.float32)),
    ]


def _size(model: ModelMetadata) -> list[int]:
    return [model.width, model.height, 1]


def _check_sizes(pictures: Sequence[bytes], largest: int) -> None:
    for index, picture in enumerate(pictures):
        if len(picture) > largest:
            raise MalformedTensorError(
                f"{PICTURE}: element {index} has {len(picture)} bytes; send at most {largest}."
            )
