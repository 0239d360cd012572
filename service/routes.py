"""The endpoints."""

from html import escape
from importlib.resources import files
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse

from service import problems
from service.problems import ProblemError, documented
from service.questions import QuestionParameters
from service.reader import Reader
from service.schemas import Health, ModelCard, Prediction
from service.uploads import FIELD, read_upload

router = APIRouter()


async def ready_reader(request: Request) -> Reader:
    """The reader of the running application.

    Raises:
        ProblemError: there is none, because the application is starting or ending.
    """
    reader: Reader | None = getattr(request.app.state, "reader", None)
    if reader is None:
        raise ProblemError(
            problems.NOT_READY, "No model has been loaded and checked yet.", {"Retry-After": "1"}
        )
    return reader


ReadyReader = Annotated[Reader, Depends(ready_reader)]

_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {
                            "type": "string",
                            "format": "binary",
                            "description": "A PNG, JPEG, WebP, BMP or GIF picture.",
                        }
                    },
                }
            }
        },
    }
}


@router.post(
    "/predict",
    operation_id="predict",
    summary="Read the text in a picture",
    response_model=Prediction,
    responses=documented(
        problems.UNSUPPORTED_MEDIA_TYPE,
        problems.INVALID_UPLOAD,
        problems.INVALID_PARAMETER,
        problems.UPLOAD_TOO_LARGE,
        problems.NOT_READY,
        problems.INTERNAL_ERROR,
        *problems.DOMAIN_KINDS.values(),
    ),
    openapi_extra=_UPLOAD,
)
async def predict(
    request: Request, reader: ReadyReader, parameters: Annotated[QuestionParameters, Query()]
) -> JSONResponse:
    """Reads one picture. A picture without text gives an empty text."""
    picture = await read_upload(request, reader.max_upload_bytes)
    # Off the event loop, so that health checks never wait for a picture or a pattern.
    reading, min_confidence = await to_thread.run_sync(
        reader.read, picture, parameters, limiter=reader.limiter
    )
    # Already valid: handing FastAPI the model instead would validate it once more.
    prediction = Prediction.of(reading, reader.recognizer.metadata, min_confidence)
    return JSONResponse(prediction.model_dump())


@router.get(
    "/model",
    operation_id="model",
    summary="The model that is served",
    responses=documented(problems.NOT_READY),
)
async def model(reader: ReadyReader) -> ModelCard:
    """The metadata of the model, its held-out figures among them."""
    return ModelCard.of(reader.recognizer.metadata)


@router.get("/health/live", operation_id="live", summary="Whether the process answers")
async def live() -> Health:
    """Answers as long as the process does."""
    return Health(status="live")


@router.get(
    "/health/ready",
    operation_id="ready",
    summary="Whether pictures can be read",
    responses=documented(problems.NOT_READY),
)
async def ready(_: ReadyReader) -> Health:
    """503 until the model has been warmed up and has read its golden pictures."""
    return Health(status="ready")


@router.get("/", include_in_schema=False)
async def index(request: Request) -> HTMLResponse:
    """A page that says how to post a picture to the address that it was asked at."""
    page = (files("service") / "index.html").read_text(encoding="utf-8")
    return HTMLResponse(page.replace("{address}", escape(str(request.base_url))))
