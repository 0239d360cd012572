"""The endpoints of the Open Inference Protocol."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from service import __version__
from service.api import errors as problems
from service.api import routes
from service.api.errors import Kind, ProblemError
from service.api.handlers import engine_of
from service.api.openapi import reference
from service.api.routes import RunningEngine
from service.api.v2 import offer
from service.api.v2.errors import PREFIX, documented_errors
from service.api.v2.infer import MALFORMED, inferred
from service.api.v2.schemas import (
    Inference,
    InferenceBody,
    ModelReady,
    ServedModel,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from service.runtime.predictor import Reader

router = APIRouter(prefix=PREFIX, tags=["Open Inference Protocol"])

_NO_SUCH_MODEL = Kind(404, "no-such-model", "No such model, or version of it")
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
async def ready(request: Request) -> ServerReady:
    """As `/health/ready`."""
    await routes.ready(request)
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
async def model_ready(request: Request, reader: Served) -> ModelReady:
    """As `/health/ready`, for the model that is served; 404 for every other."""
    await routes.ready(request)
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
        _400=MALFORMED.title,
        _401=problems.UNAUTHORIZED.title,
        _404=_NO_SUCH_MODEL.title,
        _413=problems.UPLOAD_TOO_LARGE.title,
        _415=problems.ENCODED.title,
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
    return await inferred(request, engine, served(request, engine))
