"""Errors as `application/problem+json` (RFC 9457), and the one map from exceptions to HTTP."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.ocr.exceptions import (
    LONGEST_ECHO,
    OcrError,
    PictureTooLargeError,
    UndecodableError,
    UnsupportedFormatError,
    echo,
)
from service.runtime.batcher import ClientGoneError, OverloadedError


class Problem(BaseModel):
    """What went wrong, as RFC 9457 defines it."""

    type: str = Field(description="Names the kind of problem; the same for every occurrence.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status code.")
    detail: str = Field(description="What was wrong this time, and what would be right.")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: its HTTP status, and its name in the `type` member."""

    status: int
    name: str
    title: str


BAD_REQUEST = Kind(400, "bad-request", "Bad Request")
UNAUTHORIZED = Kind(401, "unauthorized", "API key missing or wrong")
TIMEOUT = Kind(408, "request-timeout", "Request not received in time")
UNSUPPORTED_MEDIA_TYPE = Kind(415, "unsupported-media-type", "Not an upload of a known type")
HEADERS_TOO_LARGE = Kind(431, "headers-too-large", "Request headers too large")
ENCODED = Kind(415, "encoded-upload", "Upload with a content encoding")
INVALID_UPLOAD = Kind(422, "invalid-upload", "Not an upload of the expected form")
UPLOAD_TOO_LARGE = Kind(413, "upload-too-large", "Upload too large")
INVALID_PARAMETER = Kind(422, "invalid-parameter", "Invalid parameter")
OVERLOADED = Kind(503, "overloaded", "Too many requests at the moment")
NOT_READY = Kind(503, "not-ready", "No model is ready")
INTERNAL_ERROR = Kind(500, "internal-error", "Internal error")

DOMAIN_KINDS: Mapping[type[OcrError], Kind] = {
    UnsupportedFormatError: Kind(415, "unsupported-format", "Not a supported picture"),
    UndecodableError: Kind(422, "undecodable-picture", "Undecodable picture"),
    PictureTooLargeError: Kind(413, "picture-too-large", "Picture too large"),
}

SECURITY_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
"""Of every answer."""

REQUEST_ID = "captcha_ocr.request_id"
"""Where a request's scope holds the id that its answer and its line in the log bear."""

REASON = "captcha_ocr.reason"
"""Where a request's scope holds the name of the kind of problem it was answered with."""

_HUNG_UP = (ClientDisconnect, ClientGoneError)


class ProblemResponse(JSONResponse):
    """The answer for one occurrence of a kind of problem, which it leaves in the scope."""

    media_type = "application/problem+json"

    def __init__(self, kind: Kind, detail: str, headers: Mapping[str, str] | None = None) -> None:
        if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers = {"Retry-After": "1", **(headers or {})}
        super().__init__(problem_of(kind, detail).model_dump(), kind.status, headers)
        self.kind = kind

    def written(self) -> bytes:
        """The answer as it stands on the wire (RFC 9112), for where there is no scope."""
        head = f"HTTP/1.1 {self.status_code} {HTTPStatus(self.status_code).phrase}\r\n".encode()
        self.headers.update(SECURITY_HEADERS)
        headers = b"".join(b"%b: %b\r\n" % header for header in self.raw_headers)
        return head + headers + b"\r\n" + bytes(self.body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        scope[REASON] = self.kind.name
        await super().__call__(scope, receive, send)


class ProblemError(Exception):
    """Raised by the HTTP layer to answer with a problem."""

    def __init__(self, kind: Kind, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = headers


def problem_of(kind: Kind, detail: str) -> Problem:
    """One occurrence of a kind of problem."""
    return Problem(
        type=f"/problems/{kind.name}", title=kind.title, status=kind.status, detail=detail
    )


def response_to(error: Exception) -> ProblemResponse | None:
    """The answer to an exception that a request was refused with; None to any other."""
    if isinstance(error, ProblemError):
        return ProblemResponse(error.kind, error.detail, error.headers)
    if isinstance(error, OverloadedError):
        return ProblemResponse(
            OVERLOADED,
            "More pictures arrive than can be read in time; send this one again later.",
            {"Retry-After": str(error.retry_seconds)},
        )
    if isinstance(error, _HUNG_UP):
        # Nobody hears this; but hanging up is no failure of the service, to be logged as one.
        return ProblemResponse(INVALID_UPLOAD, "The connection was closed during the upload.")
    if isinstance(error, OcrError) and type(error) in DOMAIN_KINDS:
        return ProblemResponse(DOMAIN_KINDS[type(error)], str(error))
    return None


def documented(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """The entries of a route's `responses` for these kinds of problem."""
    titles: dict[int, list[str]] = {}
    for kind in kinds:
        titles.setdefault(kind.status, []).append(kind.title)
    schema = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": "; ".join(titles[status]), "content": schema}
        for status in sorted(titles)
    }


def invalid_parameters(errors: Iterable[Mapping[str, Any]]) -> ProblemError:
    """The refusal for what pydantic found wrong with parameters."""
    return ProblemError(INVALID_PARAMETER, "; ".join(map(_described, list(errors)[:3])))


def _described(error: Mapping[str, Any]) -> str:
    """What is wrong with one parameter."""
    name = str(error["loc"][-1])
    if error["type"] == "extra_forbidden":
        return f"{name[:LONGEST_ECHO]}: there is no such parameter; /docs lists those there are"
    return f"{name}: {echo(error['input'])} was given; {error['msg']}"


def install(app: FastAPI) -> None:
    """Answers every exception of the application with a problem."""

    async def on_known(_: Request, error: Exception) -> ProblemResponse:
        response = response_to(error)
        assert response is not None
        return response

    async def on_invalid_parameter(_: Request, error: Exception) -> ProblemResponse:
        assert isinstance(error, RequestValidationError)
        refused = invalid_parameters(error.errors())
        return ProblemResponse(refused.kind, refused.detail)

    async def on_http_error(request: Request, error: Exception) -> ProblemResponse:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        kind = Kind(status, status.phrase.lower().replace(" ", "-"), status.phrase)
        allowed = (error.headers or {}).get("Allow")
        hint = f"use {allowed}" if allowed else "/docs lists what there is"
        asked = f"{request.method} {request.url.path}"[:LONGEST_ECHO]
        detail = f"{asked}: {error.detail}; {hint}."
        return ProblemResponse(kind, detail, error.headers)

    async def on_unforeseen(request: Request, _: Exception) -> ProblemResponse:
        # The server logs the traceback; the answer holds nothing of it.
        # Nothing further out adds it; a HEAD has it in another scope, that of the GET.
        identity = request.scope.get(REQUEST_ID)
        headers = {"X-Request-ID": identity} if identity else None
        return ProblemResponse(INTERNAL_ERROR, "The service failed; its log says why.", headers)

    for known in (ProblemError, OverloadedError, *_HUNG_UP, *DOMAIN_KINDS):
        app.add_exception_handler(known, on_known)
    app.add_exception_handler(RequestValidationError, on_invalid_parameter)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_unforeseen)
