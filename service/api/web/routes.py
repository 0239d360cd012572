"""Serves the page's files, and pictures to try the served model with."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Self

from fastapi import APIRouter, HTTPException, Request, Response

from service.api.routes import RunningEngine

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy: nothing runs and nothing is fetched but what is served here."""

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Kept by the browser, but asked about each time: the tag says whether it is still the same.
    "Cache-Control": "no-cache",
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_INDEX = "index.html"


@dataclass(frozen=True, slots=True)
class _File:
    """What is served, and the entity tag (RFC 9110) by which a browser knows it again."""

    content: bytes
    media_type: str
    tag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> Self:
        return cls(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')

    def answer(self, request: Request) -> Response:
        """The file, or 304 where the browser has it."""
        headers = {**_HEADERS, "ETag": self.tag}
        known = request.headers.get("if-none-match", "").replace("W/", "").split(",")
        if self.tag in map(str.strip, known):
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=self.media_type)


def page_router() -> APIRouter:
    """The routes of the page; its files are read here, once."""
    router = APIRouter(include_in_schema=False)
    found = _read_files()

    @router.get("/")
    async def index(request: Request) -> Response:
        """The page."""
        return found[_INDEX].answer(request)

    @router.get("/page/{name}")
    async def part(name: str, request: Request) -> Response:
        """A file that the page needs."""
        if name not in found:
            raise HTTPException(404, f"the page consists of {', '.join(sorted(found))}")
        return found[name].answer(request)

    @router.get("/examples")
    async def examples(engine: RunningEngine) -> list[str]:
        """The addresses of the pictures that the model's file carries, relative to this page."""
        return [f"examples/{i}" for i in range(len(engine.reader.recognizer.metadata.golden))]

    @router.get("/examples/{number}")
    async def example(number: int, request: Request, engine: RunningEngine) -> Response:
        """A picture of the kind that the model reads: those that it is checked with."""
        golden = engine.reader.recognizer.metadata.golden
        if not 0 <= number < len(golden):
            raise HTTPException(404, f"the model's examples are 0 to {len(golden) - 1}")
        return _File.of(golden[number].data, "image/png").answer(request)

    return router


def _read_files() -> Mapping[str, _File]:
    folder = files("service.api.web")
    return {
        entry.name: _File.of(entry.read_bytes(), _TYPES[suffix])
        for entry in folder.iterdir()
        if (suffix := "." + entry.name.rpartition(".")[2]) in _TYPES
    }
