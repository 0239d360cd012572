"""Errors in the protocol's shape, for whatever is asked for below `/v2`."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from service.api.errors import REASON, ProblemResponse
from service.api.v2.schemas import InferenceError

PREFIX = "/v2"


def install(app: FastAPI) -> None:
    """Puts what `problems.install` answers with into the protocol's shape; call it after that."""
    for exception, handler in app.exception_handlers.items():
        app.add_exception_handler(exception, _translating(handler))


def documented_errors(**titles: str) -> dict[int | str, dict[str, Any]]:
    """The entries of a route's `responses`.

    Args:
        titles: by the status after an underscore.
    """
    return {
        int(status[1:]): {"model": InferenceError, "description": title}
        for status, title in titles.items()
    }


def _translating(
    handler: Callable[..., Any],
) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def translated(request: Request, error: Exception) -> Response:
        response: ProblemResponse = await handler(request, error)
        path = request.url.path
        if path != PREFIX and not path.startswith(f"{PREFIX}/"):
            return response
        kept = {
            name: value
            for name, value in response.headers.items()
            if name not in ("content-type", "content-length")
        }
        problem = json.loads(bytes(response.body))
        request.scope[REASON] = response.kind.name  # for metrics and log, as of any problem
        return JSONResponse({"error": problem["detail"]}, response.status_code, kept)

    return translated
