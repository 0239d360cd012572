"""The routes of the API."""

import asyncio
import os
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import request_response

from service import __version__
from service.api import errors, handlers, schemas
from service.api.auth import private
from service.api.errors import ProblemError, documented
from service.api.handlers import Engine, engine_of
from service.api.openapi import reference
from service.observability.metrics import CONTENT_TYPE
from service.ocr.formats import FORMATS, MEDIA_TYPES
from service.query_params import QueryParams
from service.runtime.cpu_budget import cpu_budget

PREDICT_PATH = "/predict"

DRAINING = "draining"
"""The key in the lifespan's state of an `asyncio.Event`. The server sets the event when the process
is about to end. Readiness then turns to 503, while requests are answered as before."""

FORMATS_DESCRIPTION = f"Pictures are {', '.join(known.name for known in FORMATS)}."

_SHOWN_SETTINGS = {"queue_requests", "queue_ms", "max_upload_bytes", "max_pixels", "max_batch"}

router = APIRouter()


class RequestRoute(APIRoute):
    """A route whose function takes the request and returns the response.

    FastAPI describes the route, but neither resolves its parameters nor validates its answer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = request_response(self.endpoint)


def _described(form: type[BaseModel], json: type[BaseModel], **raw: Any) -> dict[str, Any]:
    """The OpenAPI of a route that takes pictures and query parameters.

    The form comes first, because openapi-generator makes clients for the first media type. The
    service also accepts raw bodies of other types, such as image/png. Some generators cannot handle
    these types, so they are listed in `x-picture-types`, which the page reads.
    """
    content = {
        "multipart/form-data": {"schema": reference(form)},
        **raw,
        "application/json": {"schema": reference(json)},
    }
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in QueryParams.model_json_schema()["properties"].items()
    ]
    return {
        "parameters": parameters,
        "requestBody": {"description": FORMATS_DESCRIPTION, "required": True, "content": content},
        "x-picture-types": list(MEDIA_TYPES),
    }


_ERRORS = documented(
    errors.UNAUTHORIZED,
    errors.UNSUPPORTED_MEDIA_TYPE,
    errors.ENCODED,
    errors.INVALID_UPLOAD,
    errors.INVALID_PARAMETER,
    errors.UPLOAD_TOO_LARGE,
    errors.RATE_LIMITED,
    errors.OVERLOADED,
    errors.NOT_READY,
    errors.INTERNAL_ERROR,
    errors.UNSUPPORTED_FORMAT,
    errors.UNDECODABLE,
    errors.PICTURE_TOO_LARGE,
)


router.add_api_route(
    PREDICT_PATH,
    handlers.predict,
    methods=["POST"],
    route_class_override=RequestRoute,
    operation_id="predict",
    summary="Read the text in a picture",
    response_model=schemas.Prediction,
    responses=_ERRORS,
    openapi_extra=_described(
        schemas.PictureForm,
        schemas.PictureJson,
        **{"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    ),
)

router.add_api_route(
    "/predict/batch",
    handlers.predict_batch,
    methods=["POST"],
    route_class_override=RequestRoute,
    operation_id="predict_batch",
    summary="Read the texts in several pictures",
    response_model=schemas.Batch,
    responses=_ERRORS,
    openapi_extra=_described(schemas.PicturesForm, schemas.PicturesJson),
)


RunningEngine = Annotated[Engine, Depends(engine_of)]


@router.get(
    "/model",
    operation_id="model",
    summary="The model that is served",
    responses=documented(errors.NOT_READY),
)
async def model(engine: RunningEngine) -> schemas.ModelCard:
    """The metadata of the model, with its figures on held-out pictures."""
    return schemas.ModelCard.model_validate(engine.predictor.metadata, from_attributes=True)


@router.get(
    "/info",
    operation_id="info",
    summary="The setup and state of this process",
    responses=documented(errors.UNAUTHORIZED, errors.NOT_READY),
    dependencies=[Depends(private("/info"))],
)
async def info(engine: RunningEngine) -> schemas.Info:
    """Threads and limits, and whether the newest model file is served."""
    predictor, settings = engine.predictor, engine.settings
    metadata = predictor.metadata
    return schemas.Info(
        service_version=__version__,
        process=os.getpid(),
        model=schemas.ModelReference(name=metadata.name, version=metadata.version),
        loaded_at=predictor.loaded_at,
        reloads=engine.reloads,
        reload_error=engine.reload_error,
        cpu_budget=cpu_budget(),
        threads=engine.batcher.threads,
        min_confidence=predictor.questions.default[1],
        in_flight=engine.batcher.in_flight,
        **settings.model_dump(include=_SHOWN_SETTINGS),
    )


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **documented(errors.UNAUTHORIZED, errors.NOT_READY, errors.METRICS_INCOMPLETE),
    },
    dependencies=[Depends(private("/metrics"))],
)
async def metrics(engine: RunningEngine) -> Response:
    """The sums over all workers, in Prometheus' text format."""
    try:
        text = await asyncio.to_thread(engine.metrics.exposition, time.monotonic())
    except TimeoutError as error:
        raise ProblemError(errors.METRICS_INCOMPLETE, str(error)) from error
    return Response(text, media_type=CONTENT_TYPE)


@router.get("/health/live", operation_id="live", summary="Whether the process answers")
async def live() -> schemas.Health:
    """Answers as long as the process does."""
    return schemas.Health(status="live")


@router.get(
    "/health/ready",
    operation_id="ready",
    summary="Whether pictures can be read",
    responses=documented(errors.NOT_READY),
)
async def ready(request: Request) -> schemas.Health:
    """503 until the model is warmed up and checked with its golden pictures, and when the process
    is about to end.
    """
    engine_of(request)
    draining: asyncio.Event | None = request.scope.get("state", {}).get(DRAINING)
    if draining is not None and draining.is_set():
        raise ProblemError(errors.NOT_READY, "The service is about to end.")
    return schemas.Health(status="ready")
