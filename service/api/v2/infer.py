"""Answers one inference request: from its body through the model to the body of the answer."""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from service.api.errors import INVALID_PARAMETER, Kind, ProblemError
from service.api.handlers import Engine
from service.api.uploads import read_body
from service.api.v2 import offer
from service.api.v2.messages import LENGTH_HEADER, InferenceRequest, encoded
from service.api.v2.tensors import BYTES, MalformedTensorError, Tensor
from service.observability.request_timing import Timeline
from service.ocr.decoding.decoder import Question
from service.runtime.parts import in_parts
from service.runtime.predictor import Reader

MALFORMED = Kind(400, "malformed-inference", "Malformed request, or a picture that is none")

_QUICK_BYTES = 1 << 16
"""Of JSON, that are parsed in less than the time that handing them to a thread and back takes."""

_QUICK_ELEMENTS = 500
"""Of tensors, that become JSON in that time."""

_WITHOUT_EFFECT = {"alternatives", "min_confidence", "matrix"}
"""Parameters of `/predict` that the protocol's answers have no place for."""

_OF_TEXTS = {"length", "alphabet", "pattern"}
"""Those that change nothing where it is probabilities that are asked for."""


async def inferred(request: Request, engine: Engine, reader: Reader) -> Response:
    """The answer to a request that has been admitted.

    Raises:
        ProblemError: names what is wrong with it.
        OverloadedError, ClientGoneError
    """
    for name in sorted(_WITHOUT_EFFECT & request.query_params.keys()):
        raise ProblemError(
            INVALID_PARAMETER, f"{name}: it changes nothing here; /predict heeds it."
        )
    asked, _ = await engine.ask(request, reader)
    question = Question(constraint=asked.constraint)
    timeline = Timeline.of(request.scope)
    timeline.receiving()
    try:
        inference = await _received(request, engine)
        timeline.received()
        outputs = await _outputs(request, engine, reader, inference, question)
    except MalformedTensorError as error:
        raise ProblemError(MALFORMED, str(error)) from error
    return await _answer(engine, inference, outputs, reader)


async def _outputs(
    request: Request,
    engine: Engine,
    reader: Reader,
    inference: InferenceRequest,
    question: Question,
) -> list[Tensor]:
    settings, recognizer = engine.settings, reader.recognizer
    tensor = offer.checked(
        inference, recognizer.metadata, settings.max_batch, settings.max_upload_bytes
    )

    def in_thread(work: Callable[[Any], Any]) -> Callable[[Any], Awaitable[Any]]:
        return lambda part: engine.in_thread(
            request, recognizer, lambda: work(part), pictures=len(part)
        )

    if tensor.datatype == BYTES:
        read = in_thread(lambda part: recognizer.read_all(part, question))
        return offer.from_readings(await in_parts(engine.pool, tensor.values, read))
    for name in sorted(_OF_TEXTS & request.query_params.keys()):
        raise ProblemError(
            INVALID_PARAMETER,
            f"{name}: it changes nothing of probabilities; send {offer.PICTURE!r}.",
        )
    infer = in_thread(lambda part: recognizer.infer(np.asarray(part)))
    rows = await in_parts(engine.pool, tensor.values, infer)
    return offer.from_probabilities(rows, recognizer.metadata)


async def _received(request: Request, engine: Engine) -> InferenceRequest:
    """The request in a body.

    Raises:
        MalformedTensorError: there is none.
        ProblemError: it is too large, or encoded.
    """
    settings = engine.settings
    body = await read_body(request, settings.max_batch_bytes)
    length = request.headers.get(LENGTH_HEADER)
    if len(body) <= _QUICK_BYTES:
        return InferenceRequest.parse(body, settings.max_batch, length)
    parsed = await engine.pool.run(lambda: _parsed(body, settings.max_batch, length))
    if isinstance(parsed, str):
        raise MalformedTensorError(parsed)
    return parsed


def _parsed(body: bytes, most: int, length: str | None) -> InferenceRequest | str:
    """The request in a body, or what is wrong with it.

    The error itself holds, by its traceback, all that was parsed; and what a thread's error holds
    stays until the garbage collector comes round.
    """
    try:
        return InferenceRequest.parse(body, most, length)
    except MalformedTensorError as error:
        return str(error)


async def _answer(
    engine: Engine, inference: InferenceRequest, tensors: list[Tensor], reader: Reader
) -> Response:
    model = reader.recognizer.metadata
    head = {"model_name": model.name, "model_version": model.version}
    if inference.identity is not None:
        head["id"] = inference.identity
    by_name = {tensor.name: tensor for tensor in tensors}
    wanted = inference.outputs or dict.fromkeys(by_name, inference.binary)
    given = [(by_name[name], binary) for name, binary in wanted.items()]
    if any(math.prod(tensor.shape) > _QUICK_ELEMENTS and not binary for tensor, binary in given):
        body, length = await engine.pool.run(lambda: encoded(head, given))
    else:
        body, length = encoded(head, given)
    if not any(wanted.values()):
        return Response(body, media_type="application/json")
    return Response(
        body, headers={LENGTH_HEADER: str(length)}, media_type="application/octet-stream"
    )
