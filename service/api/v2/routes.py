"""The routes of the Open Inference Protocol."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from service import __version__
from service.api import errors, routes
from service.api.errors import V2_PREFIX, Kind
from service.api.openapi import reference
from service.api.v2 import schemas
from service.api.v2.infer import NO_SUCH_MODEL, described, infer, served
from service.api.v2.messages import MALFORMED
from service.runtime.predictor import Predictor

router = APIRouter(prefix=V2_PREFIX, tags=["Open Inference Protocol"])

_MODEL, _VERSION = "/models/{name}", "/models/{name}/versions/{version}"
_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "Name of the model; `/versions/{version}` may follow.",
    "schema": {"type": "string", "examples": ["captcha"]},
}


def _documented(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """Entries for a route's `responses` that document these kinds of problem."""
    return {
        status: {"model": schemas.InferenceError, "description": answer["description"]}
        for status, answer in errors.documented(*kinds).items()
    }


_NOT_READY = _documented(errors.NOT_READY)
_OF_A_MODEL = _documented(NO_SUCH_MODEL, errors.NOT_READY)


ServedByPath = Annotated[Predictor, Depends(served)]


@router.get("", operation_id="v2_server", summary="The server")
async def server() -> schemas.ServerMetadata:
    """Name, version and extensions of the server."""
    return schemas.ServerMetadata(
        name="captcha-ocr", version=__version__, extensions=["binary_tensor_data"]
    )


@router.get("/health/live", operation_id="v2_live", summary="Whether the process answers")
async def live() -> schemas.ServerLive:
    """The same as `/health/live`."""
    return schemas.ServerLive(live=True)


@router.get(
    "/health/ready",
    operation_id="v2_ready",
    summary="Whether the model can infer",
    responses=_NOT_READY,
)
async def ready(request: Request) -> schemas.ServerReady:
    """The same as `/health/ready`."""
    await routes.ready(request)
    return schemas.ServerReady(ready=True)


@router.get(_VERSION, include_in_schema=False)
@router.get(
    _MODEL,
    operation_id="v2_model",
    summary="The inputs and outputs of a model",
    responses=_OF_A_MODEL,
    openapi_extra={"parameters": [_NAME]},
)
async def model(predictor: ServedByPath) -> schemas.ServedModel:
    """A request has one of the inputs. An image tensor gives class probabilities, encoded pictures
    give texts and confidences.
    """
    return described(predictor.metadata)


@router.get(f"{_VERSION}/ready", include_in_schema=False)
@router.get(
    f"{_MODEL}/ready",
    operation_id="v2_model_ready",
    summary="Whether a model can infer",
    responses=_OF_A_MODEL,
    openapi_extra={"parameters": [_NAME]},
)
async def model_ready(request: Request, predictor: ServedByPath) -> schemas.ModelReady:
    """The same as `/health/ready` for the model that is served; 404 for any other model."""
    await routes.ready(request)
    return schemas.ModelReady(name=predictor.metadata.name, ready=True)


_INFER: dict[str, Any] = {
    "parameters": [
        _NAME,
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "required": False,
            "description": "Number of bytes of the JSON, if binary data follows it.",
            "schema": {"type": "integer", "minimum": 0},
        },
    ],
    "requestBody": {
        "description": routes.FORMATS_DESCRIPTION,
        "required": True,
        "content": {
            "application/json": {"schema": reference(schemas.InferenceBody)},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}


for path, shown in ((f"{_MODEL}/infer", True), (f"{_VERSION}/infer", False)):
    router.add_api_route(
        path,
        infer,
        methods=["POST"],
        route_class_override=routes.RequestRoute,
        include_in_schema=shown,
        operation_id="v2_infer",
        summary="Infer",
        response_model=schemas.Inference,
        responses=_documented(
            MALFORMED,
            errors.UNAUTHORIZED,
            NO_SUCH_MODEL,
            errors.UPLOAD_TOO_LARGE,
            errors.ENCODED,
            errors.INVALID_PARAMETER,
            errors.RATE_LIMITED,
            errors.INTERNAL_ERROR,
            errors.OVERLOADED,
            errors.NOT_READY,
        ),
        openapi_extra=_INFER,
    )
