"""The endpoints."""

import os
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from service import __version__
from service.api import errors as problems
from service.api.errors import ProblemError, documented
from service.api.handlers import Engine, engine_of
from service.api.query_params import QuestionParameters
from service.api.schemas import Batch, Health, Info, ModelCard, ModelReference, Prediction
from service.api.shortcut import Endpoints
from service.api.uploads import BATCH_FIELD, BATCH_MEMBER, FIELD, MEMBER, RAW_TYPES
from service.observability.metrics import CONTENT_TYPE
from service.runtime.cpu_budget import cpu_budget
from service.server.shutdown import STATE, Drain

router = APIRouter()


_BINARY = {"type": "string", "format": "binary"}
_BASE64 = {"type": "string", "format": "byte", "description": "Base64, or a data URL."}


def _object(**properties: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"schema": schema}


def _described(content: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI of a route that takes pictures and the parameters of a question."""
    schema = QuestionParameters.model_json_schema()["properties"]
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": described}
        for name, described in schema.items()
    ]
    return {
        "parameters": parameters,
        "requestBody": {"required": True, "content": content},
    }


_ERRORS = documented(
    problems.UNAUTHORIZED,
    problems.UNSUPPORTED_MEDIA_TYPE,
    problems.ENCODED,
    problems.INVALID_UPLOAD,
    problems.INVALID_PARAMETER,
    problems.UPLOAD_TOO_LARGE,
    problems.OVERLOADED,
    problems.NOT_READY,
    problems.INTERNAL_ERROR,
    *problems.DOMAIN_KINDS.values(),
)


@router.post(
    "/predict",
    operation_id="predict",
    summary="Read the text in a picture",
    response_model=Prediction,
    responses=_ERRORS,
    openapi_extra=_described(
        {
            **{kind: {"schema": _BINARY} for kind in sorted(RAW_TYPES)},
            "multipart/form-data": _object(**{FIELD: _BINARY}),
            "application/json": _object(**{MEMBER: _BASE64}),
        }
    ),
)
async def predict(request: Request) -> Response:
    """Reads one picture (PNG, JPEG, WebP, BMP or GIF): the body itself, the file of a form, or
    base64 in JSON. A picture without text gives an empty text.
    """
    return _json(await engine_of(request).answer(request))


@router.post(
    "/predict/batch",
    operation_id="predict_batch",
    summary="Read the texts in several pictures",
    response_model=Batch,
    responses=_ERRORS,
    openapi_extra=_described(
        {
            "multipart/form-data": _object(**{BATCH_FIELD: {"type": "array", "items": _BINARY}}),
            "application/json": _object(**{BATCH_MEMBER: {"type": "array", "items": _BASE64}}),
        }
    ),
)
async def predict_batch(request: Request) -> Response:
    """Gives an answer for every picture, in their order; one that cannot be read has a problem in
    place of a prediction.
    """
    return _json(await engine_of(request).answer_batch(request))


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


RunningEngine = Annotated[Engine, Depends(engine_of)]


@router.get(
    "/model",
    operation_id="model",
    summary="The model that is served",
    responses=documented(problems.NOT_READY),
)
async def model(engine: RunningEngine) -> ModelCard:
    """The metadata of the model, its held-out figures among them."""
    return ModelCard.of(engine.reader.recognizer.metadata)


@router.get(
    "/info",
    operation_id="info",
    summary="How this process is set up, and how it fares",
    responses=documented(problems.NOT_READY),
)
async def info(engine: RunningEngine) -> Info:
    """Threads and limits, and whether the newest model file is the one that is served."""
    metadata, settings = engine.reader.recognizer.metadata, engine.settings
    return Info(
        service_version=__version__,
        process=os.getpid(),
        model=ModelReference(name=metadata.name, version=metadata.version),
        loaded_at=engine.reader.loaded_at,
        reloads=engine.reloads,
        reload_error=engine.reload_error,
        cpu_budget=cpu_budget(),
        threads=engine.pool.threads,
        in_flight=engine.pool.in_flight,
        **{name: getattr(settings, name) for name in Info.SETTINGS},
    )


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **documented(problems.NOT_READY)},
)
async def metrics(engine: RunningEngine) -> Response:
    """Those of all workers together, in Prometheus' text format."""
    engine.metrics.sample(engine.pool)
    return Response(engine.metrics.exposition(), media_type=CONTENT_TYPE)


@router.get(
    "/health/live",
    operation_id="live",
    summary="Whether the process answers",
    response_model=Health,
)
async def live(_: Request) -> Response:
    """Answers as long as the process does."""
    return _health("live")


@router.get(
    "/health/ready",
    operation_id="ready",
    summary="Whether pictures can be read",
    response_model=Health,
    responses=documented(problems.NOT_READY),
)
async def ready(request: Request) -> Response:
    """503 until the model has been warmed up and has read its golden pictures, and again when the
    process is about to end.
    """
    engine_of(request)
    ending: Drain | None = request.scope.get("state", {}).get(STATE)
    if ending is not None and ending.begun:
        raise ProblemError(problems.NOT_READY, "The service is about to end.")
    return _health("ready")


def _health(status: str) -> Response:
    return _json(Health(status=status).model_dump_json().encode())


HOT: Endpoints = {
    "/predict": ("POST", predict),
    "/predict/batch": ("POST", predict_batch),
    "/health/live": ("GET", live),
    "/health/ready": ("GET", ready),
}
"""Routes that are asked for so often, or when there is so much to do, that their routing counts."""
