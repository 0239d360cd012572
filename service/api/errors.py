"""Errors as `application/problem+json` (RFC 9457), and the map from exceptions to HTTP.

To add a kind of error, add a `Kind` here. `service.api` raises it as a `ProblemError`. Lower
packages raise an exception of their own, which is mapped to its `Kind` in `KINDS`.
"""

from collections.abc import Mapping
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
    PictureTooLargeError,
    RegionError,
    UndecodableError,
    UnsupportedFormatError,
)
from service.query_params import InvalidParameterError
from service.runtime.batcher import ClientGoneError, OverloadedError


class Problem(BaseModel):
    """What went wrong, as RFC 9457 defines it."""

    type: str = Field(description="Identifies the kind of problem; equal for every occurrence.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status code.")
    detail: str = Field(description="What was wrong with this request, and what would be right.")


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
RATE_LIMITED = Kind(429, "rate-limited", "Too many pictures for this API key")
OVERLOADED = Kind(503, "overloaded", "Too many requests at the moment")
UNSUPPORTED_CODING = Kind(501, "unsupported-coding", "Transfer coding not supported")
NOT_READY = Kind(503, "not-ready", "No model is ready")
METRICS_INCOMPLETE = Kind(503, "metrics-incomplete", "Metrics of some workers are missing")
INTERNAL_ERROR = Kind(500, "internal-error", "Internal error")

UNSUPPORTED_FORMAT = Kind(415, "unsupported-format", "Not a supported picture")
UNDECODABLE = Kind(422, "undecodable-picture", "Undecodable picture")
PICTURE_TOO_LARGE = Kind(413, "picture-too-large", "Picture too large")

KINDS: Mapping[type[Exception], Kind] = {
    UnsupportedFormatError: UNSUPPORTED_FORMAT,
    UndecodableError: UNDECODABLE,
    PictureTooLargeError: PICTURE_TOO_LARGE,
    InvalidParameterError: INVALID_PARAMETER,
    RegionError: INVALID_PARAMETER,
    OverloadedError: OVERLOADED,
    # No client receives these two, but they must not count as failures of the service.
    ClientDisconnect: INVALID_UPLOAD,
    ClientGoneError: INVALID_UPLOAD,
}
"""Maps domain exceptions to kinds of problems; the exception's message is the detail."""

SECURITY_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
"""Headers of every answer."""

REQUEST_ID = "captcha_ocr.request_id"
"""The key under which a request's scope holds the request's id, for the answer and the log."""

REASON = "captcha_ocr.reason"
"""The key under which a request's scope holds the name of its problem's kind, for the log."""

V2_PREFIX = "/v2"
"""Path prefix of the routes whose errors have the form of the Open Inference Protocol."""


class ProblemError(Exception):
    """Raised by `service.api` and `service.server` to answer with a problem."""

    def __init__(self, kind: Kind, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = headers


class ProblemResponse(JSONResponse):
    """The answer for one occurrence of a kind of problem."""

    media_type = "application/problem+json"

    def __init__(self, kind: Kind, detail: str, headers: Mapping[str, str] | None = None) -> None:
        if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers = {"Retry-After": "1", **(headers or {})}
        super().__init__(problem_of(kind, detail).model_dump(), kind.status, headers)
        self.kind = kind
        self.detail = detail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        scope[REASON] = self.kind.name
        if scope["path"] == V2_PREFIX or scope["path"].startswith(f"{V2_PREFIX}/"):
            self.body = self.render({"error": self.detail})
            self.headers["Content-Type"] = "application/json"
            self.headers["Content-Length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def problem_of(kind: Kind, detail: str) -> Problem:
    """One occurrence of a kind of problem."""
    return Problem(
        type=f"/problems/{kind.name}", title=kind.title, status=kind.status, detail=detail
    )


def problem_error(error: Exception) -> ProblemError:
    """Converts an exception of `KINDS`, FastAPI or Starlette to a problem."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        kind = Kind(status, status.phrase.lower().replace(" ", "-"), status.phrase)
        return ProblemError(kind, error.detail, error.headers)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return ProblemError(INVALID_PARAMETER, f"{first['loc'][-1]}: {first['msg']}.")
    headers = None
    if isinstance(error, OverloadedError):
        headers = {"Retry-After": str(error.retry_seconds)}
    return ProblemError(KINDS[type(error)], str(error), headers)


def documented(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """Entries for a route's `responses` that document these kinds of problem."""
    titles: dict[int, list[str]] = {}
    for kind in kinds:
        titles.setdefault(kind.status, []).append(kind.title)
    schema = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": "; ".join(titles[status]), "content": schema}
        for status in sorted(titles)
    }


def install(app: FastAPI) -> None:
    """Answers every exception of the application with a problem."""

    async def on_known(request: Request, error: Exception) -> ProblemResponse:
        problem = problem_error(error)
        detail = problem.detail
        # The traceback would keep the body in memory while a slow client takes the answer.
        error.__traceback__ = error.__context__ = None
        if isinstance(error, HTTPException):
            allowed = (error.headers or {}).get("Allow")
            hint = f"use {allowed}" if allowed else "/docs lists the routes"
            detail = f"{request.method} {request.url.path}"[:LONGEST_ECHO] + f": {detail}; {hint}."
        return ProblemResponse(problem.kind, detail, problem.headers)

    async def on_unforeseen(request: Request, _: Exception) -> ProblemResponse:
        # The server logs the traceback; the answer contains nothing of it. This answer does not
        # pass the middleware that adds the request's id.
        headers = {"X-Request-ID": request.scope[REQUEST_ID]} if REQUEST_ID in request.scope else {}
        return ProblemResponse(INTERNAL_ERROR, "The service failed; its log says why.", headers)

    for known in (ProblemError, RequestValidationError, HTTPException, *KINDS):
        app.add_exception_handler(known, on_known)
    app.add_exception_handler(Exception, on_unforeseen)
