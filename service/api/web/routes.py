"""Serves the page, example pictures for the served model, and the API document in Swagger UI."""

import os
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from service.api.auth import private
from service.api.errors import SECURITY_HEADERS
from service.api.handlers import engine_of
from service.ocr.formats import sniff

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy: the page runs and fetches only what this service serves."""

_HEADERS = {
    "Content-Security-Policy": POLICY,
    # The browser caches a file, but checks each time whether it has changed.
    "Cache-Control": "no-cache",
    "Accept-Ranges": "none",
    **SECURITY_HEADERS,
}


class _Files(StaticFiles):
    """Static files with the headers of the page, such as its Content-Security-Policy."""

    def file_response(
        self, full_path: Any, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """A file, or 304 if the browser has cached it.

        Ranges are ignored (RFC 9110, 14.2): a hundred ranges take as long as five pictures.
        """
        scope["headers"] = [field for field in scope["headers"] if field[0] != b"range"]
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        return response


def router() -> APIRouter:
    """The routes of both pages, their files and the examples."""
    router = APIRouter(include_in_schema=False)
    # Without `follow_symlink`, each folder in a path, of which there may be thousands, takes a
    # system call.
    page = _Files(directory=Path(__file__).with_name("static"), follow_symlink=True)
    swagger_ui = _Files(packages=[("fastapi_offline", "static")], follow_symlink=True)
    router.mount("/page", page)
    router.mount("/swagger-ui", swagger_ui)

    @router.get("/")
    async def index(request: Request) -> Response:
        """The page."""
        return await page.get_response("index.html", request.scope)

    @router.get("/docs", dependencies=[Depends(private("/docs"))])
    async def docs(request: Request) -> Response:
        """The API document in Swagger UI."""
        return await page.get_response("docs.html", request.scope)

    @router.get("/examples")
    async def examples(request: Request) -> list[str]:
        """The addresses of the example pictures in the model's file, relative to the page."""
        golden = engine_of(request).predictor.metadata.golden
        return [f"examples/{number}" for number in range(len(golden))]

    @router.get("/examples/{number}")
    async def example(number: int, request: Request) -> Response:
        """An example picture: one of the golden pictures that the model is checked with."""
        golden = engine_of(request).predictor.metadata.golden
        if not 0 <= number < len(golden):
            raise HTTPException(404, f"the model's examples are 0 to {len(golden) - 1}")
        known = sniff(golden[number].data)
        media_type = known.media_types[0] if known else None
        return Response(golden[number].data, headers=_HEADERS, media_type=media_type)

    return router
