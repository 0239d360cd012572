"""Answers one inference request: from its body through the model to the body of the answer."""

import math
import time

from starlette.requests import Request
from starlette.responses import Response

from service.api.errors import INVALID_PARAMETER, Kind, ProblemError
from service.api.handlers import Engine, Served, is_gone, note_times, timing_of
from service.api.uploads import read_body
from service.api.v2 import offer
from service.api.v2.messages import LENGTH_HEADER, InferenceRequest, encoded
from service.api.v2.tensors import BYTES, MalformedTensorError, Tensor
from service.ocr.decoding.decoder import Question
from service.ocr.metadata import ModelMetadata
from service.query_params import CONSTRAINTS, QueryParams

MALFORMED = Kind(400, "malformed-inference", "Malformed request, or a picture that is none")

_LOOP_BYTES = 1 << 16
"""Bytes of JSON that are parsed on the event loop; handing them to a thread would take as long."""

_LOOP_ELEMENTS = 500
"""Elements of tensors that are written as JSON on the event loop, likewise."""


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
    timing = timing_of(request)
    timing.receive_began = time.perf_counter()
    try:
        inference = await _receive(request, engine)
        timing.receive_ended = time.perf_counter()
        outputs = await _outputs(
            request, engine, served, inference, Question(constraint=asked.constraint)
        )
    except MalformedTensorError as error:
        raise ProblemError(MALFORMED, str(error)) from error
    return await _answer(engine, inference, outputs, served.predictor.metadata)


async def _outputs(
    request: Request,
    engine: Engine,
    served: Served,
    inference: InferenceRequest,
    question: Question,
) -> list[Tensor]:
    settings, predictor = engine.settings, served.predictor
    tensor = offer.checked(
        inference, predictor.metadata, settings.max_batch, settings.max_upload_bytes
    )
    if tensor.datatype == BYTES:
        outcomes = await engine.read(request, predictor, tensor.values, question)
        return offer.from_readings([outcome.reading for outcome in outcomes])
    for name in CONSTRAINTS:
        if name in request.query_params:
            raise ProblemError(
                INVALID_PARAMETER,
                f"{name}: it changes nothing of probabilities; send {offer.PICTURE!r}.",
            )
    began = time.perf_counter()
    rows = await engine.batcher.submit_all(predictor.infer, list(tensor.values), is_gone(request))
    note_times(request, predictor, began, {times for _, times in rows})
    return offer.from_probabilities([row for row, _ in rows], predictor.metadata)


async def _receive(request: Request, engine: Engine) -> InferenceRequest:
    """The request in a body.

    Raises:
        MalformedTensorError: there is none.
        ProblemError: it is too large, or encoded.
    """
    settings = engine.settings
    body = await read_body(request, settings.max_batch_bytes)
    length = request.headers.get(LENGTH_HEADER)
    if len(body) <= _LOOP_BYTES:
        return InferenceRequest.parse(body, settings.max_batch, length)
    parsed = await engine.batcher.run(lambda: _parsed(body, settings.max_batch, length))
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
    engine: Engine, inference: InferenceRequest, tensors: list[Tensor], model: ModelMetadata
) -> Response:
    head = {"model_name": model.name, "model_version": model.version}
    if inference.identity is not None:
        head["id"] = inference.identity
    by_name = {tensor.name: tensor for tensor in tensors}
    wanted = inference.outputs or dict.fromkeys(by_name, inference.binary)
    given = [(by_name[name], binary) for name, binary in wanted.items()]
    if any(math.prod(tensor.shape) > _LOOP_ELEMENTS and not binary for tensor, binary in given):
        body, length = await engine.batcher.run(lambda: encoded(head, given))
    else:
        body, length = encoded(head, given)
    if not any(wanted.values()):
        return Response(body, media_type="application/json")
    return Response(
        body, headers={LENGTH_HEADER: str(length)}, media_type="application/octet-stream"
    )
