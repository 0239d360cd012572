"""Answers one inference request: from its body through the model to the body of the answer."""

import math
import time
from collections.abc import Sequence

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from service.api.errors import INVALID_PARAMETER, Kind, ProblemError
from service.api.handlers import Engine, Served, is_gone, note_times, received
from service.api.uploads import read_body
from service.api.v2.messages import (
    BYTES,
    FP32,
    LENGTH_HEADER,
    InferenceRequest,
    MalformedTensorError,
    Tensor,
    echo,
    encode,
    parse,
)
from service.api.v2.schemas import ServedModel, TensorMetadata
from service.ocr.decoding.decoder import Question, Reading
from service.ocr.exceptions import PictureError
from service.ocr.metadata import ModelMetadata
from service.query_params import CONSTRAINTS, QueryParams

MALFORMED = Kind(400, "malformed-inference", "Malformed request, or a picture that is none")

PICTURE, TEXT, CONFIDENCE = "picture", "text", "confidence"
"""The input of encoded pictures, and the outputs that they are read to."""

_LOOP_BYTES = 1 << 16
"""Bytes of JSON that are parsed on the event loop; handing them to a thread would take as long."""

_LOOP_ELEMENTS = 500
"""Elements of tensors that are written as JSON on the event loop, likewise."""


def described(model: ModelMetadata) -> ServedModel:
    """What can be sent to a model and what it gives; -1 is a length that varies."""

    def tensor(name: str, datatype: str, *shape: int) -> TensorMetadata:
        return TensorMetadata(name=name, datatype=datatype, shape=[-1, *shape])

    return ServedModel(
        name=model.name,
        versions=[model.version],
        platform="onnxruntime_onnx",
        inputs=[tensor(model.input_name, FP32, *_size(model)), tensor(PICTURE, BYTES)],
        outputs=[
            tensor(model.output_name, FP32, -1, len(model.alphabet) + 1),
            tensor(TEXT, BYTES),
            tensor(CONFIDENCE, FP32),
        ],
    )


async def infer(request: Request, engine: Engine, served: Served) -> Response:
    """The answer to a request that has been admitted.

    Raises:
        ProblemError: names what is wrong with it.
        OverloadedError, ClientGoneError
    """
    given = request.query_params.keys()
    for name in QueryParams.model_fields:
        if name in given and name not in CONSTRAINTS:
            raise ProblemError(
                INVALID_PARAMETER, f"{name}: it changes nothing here; /predict heeds it."
            )
    asked, _ = await engine.ask(request, served.questions)
    question = Question(constraint=asked.constraint)
    try:
        inference = await received(request, _receive(request, engine))
        outputs = await _outputs(request, engine, served, inference, question)
    except MalformedTensorError as error:
        raise ProblemError(MALFORMED, str(error)) from error
    return await _answer(engine, inference, outputs, served.predictor.metadata)


async def _receive(request: Request, engine: Engine) -> InferenceRequest:
    """The request in the body.

    Raises:
        MalformedTensorError: there is none.
        ProblemError: it is too large, or encoded.
    """
    settings = engine.settings
    body = await read_body(request, settings.max_batch_bytes)
    length = request.headers.get(LENGTH_HEADER)
    if len(body) <= _LOOP_BYTES:
        return parse(body, settings.max_batch, length)
    return await engine.batcher.run(lambda: parse(body, settings.max_batch, length))


async def _outputs(
    request: Request,
    engine: Engine,
    served: Served,
    inference: InferenceRequest,
    question: Question,
) -> list[Tensor]:
    """All outputs that the input of a request is inferred to."""
    settings, predictor = engine.settings, served.predictor
    model = predictor.metadata
    tensor = _checked_input(inference, model, settings.max_batch, settings.max_upload_bytes)
    offered = (TEXT, CONFIDENCE) if tensor.datatype == BYTES else (model.output_name,)
    for name in inference.outputs:
        if name not in offered:
            raise MalformedTensorError(
                f"there is no output {echo(name)} of {tensor.name}; there is {', '.join(offered)}."
            )
    if tensor.datatype == BYTES:
        outcomes = await engine.read(request, predictor, tensor.values, question)
        return _from_readings([outcome.reading for outcome in outcomes])
    for name in CONSTRAINTS:
        if name in request.query_params:
            raise ProblemError(
                INVALID_PARAMETER, f"{name}: it changes nothing of probabilities; send {PICTURE!r}."
            )
    began = time.perf_counter()
    engine.charge(request, len(tensor.values))
    rows = await engine.batcher.submit_all(predictor.infer, list(tensor.values), is_gone(request))
    note_times(request, predictor, began, {times for _, times in rows})
    return [Tensor(model.output_name, FP32, np.stack([row for row, _ in rows]))]


def _checked_input(
    request: InferenceRequest, model: ModelMetadata, max_pictures: int, max_bytes: int
) -> Tensor:
    """The one input of a request that the model can answer.

    Raises:
        MalformedTensorError: it is another request.
    """
    image = f"{model.input_name!r} (FP32 of the shape [n, {', '.join(map(str, _size(model)))}])"
    how = f"send {image} or {PICTURE!r} (BYTES of the shape [n])"
    names = [tensor.name for tensor in request.inputs]
    if names not in ([model.input_name], [PICTURE]):
        raise MalformedTensorError(f"the inputs are {echo(names)}; {how}.")
    (tensor,) = request.inputs
    datatype, size = (BYTES, []) if tensor.name == PICTURE else (FP32, _size(model))
    if tensor.datatype != datatype or tensor.shape[1:] != size:
        raise MalformedTensorError(
            f"{tensor.name} is {tensor.datatype} of the shape {tensor.shape}; {how}."
        )
    if not 1 <= tensor.shape[0] <= max_pictures:
        raise MalformedTensorError(
            f"{tensor.name} has {tensor.shape[0]} pictures; send 1 to {max_pictures}."
        )
    for index, picture in enumerate(tensor.values if datatype == BYTES else ()):
        if len(picture) > max_bytes:
            raise MalformedTensorError(
                f"{PICTURE}: element {index} has {len(picture)} bytes; send at most {max_bytes}."
            )
    return tensor


def _from_readings(readings: Sequence[Reading | PictureError]) -> list[Tensor]:
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


async def _answer(
    engine: Engine, inference: InferenceRequest, tensors: list[Tensor], model: ModelMetadata
) -> Response:
    head = {"model_name": model.name, "model_version": model.version}
    if inference.identity is not None:
        head["id"] = inference.identity
    by_name = {tensor.name: tensor for tensor in tensors}
    wanted = inference.outputs or dict.fromkeys(by_name, inference.binary)
    given = [(by_name[name], binary) for name, binary in wanted.items()]
    if any(math.prod(tensor.shape) > _LOOP_ELEMENTS and not binary for tensor, binary in given):
        body, length = await engine.batcher.run(lambda: encode(head, given))
    else:
        body, length = encode(head, given)
    if not any(wanted.values()):
        return Response(body, media_type="application/json")
    return Response(
        body, headers={LENGTH_HEADER: str(length)}, media_type="application/octet-stream"
    )


def _size(model: ModelMetadata) -> list[int]:
    return [model.width, model.height, model.channels]
