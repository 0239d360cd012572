"""The endpoints of the Open Inference Protocol."""

import math
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response

from service import __version__, problems, routes
from service.document import reference
from service.engine import Engine, engine_of
from service.inference import offer
from service.inference.errors import PREFIX, documented_errors
from service.inference.messages import LENGTH_HEADER, InferenceRequest, encoded
from service.inference.schemas import (
    Inference,
    InferenceBody,
    ModelReady,
    ServedModel,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from service.inference.tensors import BYTES, MalformedTensorError, Tensor
from service.ocr.decoder import Question
from service.parts import in_parts
from service.problems import Kind, ProblemError
from service.reader import Reader
from service.routes import RunningEngine
from service.timeline import Timeline
from service.uploads import read_body

router = APIRouter(prefix=PREFIX, tags=["Open Inference Protocol"])

_NO_SUCH_MODEL = Kind(404, "no-such-model", "No such model, or version of it")
_MALFORMED = Kind(400, "malformed-inference", "Malformed request, or a picture that is none")
_ENCODED = Kind(415, "encoded-inference", "A content encoding")
_QUICK_BYTES = 1 << 16
"""Of JSON, that are parsed in less than the time that handing them to a thread and back takes."""

_QUICK_ELEMENTS = 500
"""Of tensors, that become JSON in that time."""

_WITHOUT_EFFECT = {"alternatives", "min_confidence", "matrix"}
"""Parameters of `/predict` that the protocol's answers have no place for."""

_MODEL, _VERSION = "/models/{name}", "/models/{name}/versions/{version}"
_NOT_READY = {"_503": "No model is ready"}
_OF_A_MODEL = {"_404": _NO_SUCH_MODEL.title} | _NOT_READY
_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "Of the model; `/versions/{version}` may follow.",
    "schema": {"type": "string", "examples": ["captcha"]},
}


def served(request: Request, engine: RunningEngine) -> Reader:
    """The reader of the model that the path names.

    Raises:
        ProblemError: it names another.
    """
    model = engine.reader.recognizer.metadata
    name, version = request.path_params["name"], request.path_params.get("version", model.version)
    if (name, version) != (model.name, model.version):
        raise ProblemError(
            _NO_SUCH_MODEL,
            f"the model served is {model.name}, version {model.version}; others are not.",
        )
    return engine.reader


Served = Annotated[Reader, Depends(served)]


@router.get("", operation_id="v2_server", summary="The server")
async def server() -> ServerMetadata:
    """Its name and version, and the extension that it has."""
    return ServerMetadata(
        name="captcha-ocr", version=__version__, extensions=["binary_tensor_data"]
    )


@router.get("/health/live", operation_id="v2_live", summary="Whether the process answers")
async def live() -> ServerLive:
    """As `/health/live`."""
    return ServerLive(live=True)


@router.get(
    "/health/ready",
    operation_id="v2_ready",
    summary="Whether the model can infer",
    responses=documented_errors(**_NOT_READY),
)
async def ready(request: Request, engine: RunningEngine) -> ServerReady:
    """As `/health/ready`."""
    await routes.ready(request, engine)
    return ServerReady(ready=True)


@router.get(_VERSION, include_in_schema=False)
@router.get(
    _MODEL,
    operation_id="v2_model",
    summary="What a model takes and gives",
    responses=documented_errors(**_OF_A_MODEL),
    openapi_extra={"parameters": [_NAME]},
)
async def model(reader: Served) -> ServedModel:
    """The inputs are alternatives: from the image tensor come the class probabilities, and from
    encoded pictures their texts and confidences.
    """
    return ServedModel(**offer.described(reader.recognizer.metadata))


@router.get(f"{_VERSION}/ready", include_in_schema=False)
@router.get(
    f"{_MODEL}/ready",
    operation_id="v2_model_ready",
    summary="Whether a model can infer",
    responses=documented_errors(**_OF_A_MODEL),
    openapi_extra={"parameters": [_NAME]},
)
async def model_ready(request: Request, engine: RunningEngine, reader: Served) -> ModelReady:
    """As `/health/ready`, for the model that is served; 404 for every other."""
    await routes.ready(request, engine)
    return ModelReady(name=reader.recognizer.metadata.name, ready=True)


_INFER: dict[str, Any] = {
    "parameters": [
        _NAME,
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "required": False,
            "description": "The bytes of the JSON, where binary data follows it.",
            "schema": {"type": "integer", "minimum": 0},
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": reference(InferenceBody)},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}


@router.post(f"{_VERSION}/infer", include_in_schema=False)
@router.post(
    f"{_MODEL}/infer",
    operation_id="v2_infer",
    summary="Infer",
    response_model=Inference,
    responses=documented_errors(
        _400=_MALFORMED.title,
        _401=problems.UNAUTHORIZED.title,
        _404=_NO_SUCH_MODEL.title,
        _413=problems.UPLOAD_TOO_LARGE.title,
        _415=_ENCODED.title,
        _422=problems.INVALID_PARAMETER.title,
        _500=problems.INTERNAL_ERROR.title,
        _503="Too many requests at the moment, or no model is ready",
    ),
    openapi_extra=_INFER,
)
async def infer(request: Request) -> Response:
    """Gives class probabilities for image tensors, or texts and confidences for pictures.

    Pictures (PNG, JPEG, WebP, BMP or GIF) are elements of BYTES: as they are in binary data, in
    base64 in JSON. What `/predict` takes as `length`, `alphabet` and `pattern` can be asked of
    them in the query, too.
    """
    engine = engine_of(request)
    engine.admit(request)
    reader = served(request, engine)
    for name in sorted(_WITHOUT_EFFECT & request.query_params.keys()):
        raise ProblemError(
            problems.INVALID_PARAMETER, f"{name}: it changes nothing here; /predict heeds it."
        )
    try:
        asked, _ = await engine.ask(request, reader)
        question = Question(constraint=asked.constraint)
        timeline = Timeline.of(request.scope)
        timeline.receiving()
        inference = await _received(request)
        engine.metrics.received(timeline.received())
        settings, recognizer = engine.settings, reader.recognizer
        tensor = offer.checked(
            inference, recognizer.metadata, settings.max_batch, settings.max_upload_bytes
        )

        def in_thread(work: Callable[[Any], Any]) -> Callable[[Any], Awaitable[Any]]:
            return lambda part: engine.in_thread(
                request, recognizer, lambda: work(part), pictures=len(part)
            )

        if tensor.datatype == BYTES:
            readings = await in_parts(
                engine.pool,
                tensor.values,
                in_thread(lambda part: recognizer.read_all(part, question)),
            )
            outputs = offer.from_readings(readings)
        else:
            rows = await in_parts(
                engine.pool,
                tensor.values,
                in_thread(lambda part: recognizer.infer(np.asarray(part))),
            )
            outputs = offer.from_probabilities(rows, recognizer.metadata)
    except MalformedTensorError as error:
        raise ProblemError(_MALFORMED, str(error)) from error
    return await _answer(engine, inference, outputs, reader)


async def _received(request: Request) -> InferenceRequest:
    """The request in a body.

    Raises:
        MalformedTensorError: there is none.
        ProblemError: it is too large, or encoded.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise ProblemError(_ENCODED, f"the body is sent as {encoding[:100]}; send it as it is.")
    engine = engine_of(request)
    body = await read_body(request, engine.settings.max_batch_bytes)
    length = request.headers.get(LENGTH_HEADER)
    if len(body) <= _QUICK_BYTES:
        return InferenceRequest.parse(body, length)
    return await engine.pool.run(lambda: InferenceRequest.parse(body, length))


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
