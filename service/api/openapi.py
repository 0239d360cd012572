"""Completes the OpenAPI document, and serves it."""

from functools import cache, lru_cache
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from pydantic import BaseModel
from pydantic_core import to_json

from service.api.auth import private
from service.api.errors import HEADERS_TOO_LARGE, TIMEOUT, UNAUTHORIZED, Problem, documented
from service.api.middleware.proxy_headers import PREFIX
from service.api.schemas import PictureForm, PictureJson, PicturesForm, PicturesJson
from service.api.v2.schemas import InferenceBody

_REFERENCES = "#/components/schemas/{model}"

_ADDED_MODELS = (
    Problem,
    InferenceBody,
    PictureForm,
    PictureJson,
    PicturesForm,
    PicturesJson,
)
"""Models that FastAPI does not describe, since it does not parse or serialize them itself."""

_SERVER_ERRORS = documented(TIMEOUT, HEADERS_TOO_LARGE)
"""Errors that the server answers before any route is called."""

_KEY = "ApiKey"
_KEY_SCHEME = {
    "type": "apiKey",
    "in": "header",
    "name": "X-API-Key",
    "description": "Required if the service has API keys; a bearer token works, too.",
}


def reference(model: type[BaseModel]) -> dict[str, str]:
    """A reference to the schema of a model that this module adds to the document."""
    return {"$ref": _REFERENCES.format(model=model.__name__)}


def install(app: FastAPI) -> None:
    """Adds to the document what applies to all routes, and serves the document.

    The JSON text is cached. FastAPI makes it for every request, which takes as long as a picture.
    """

    @cache
    def openapi() -> dict[str, Any]:
        document = describe()
        document["components"]["securitySchemes"] = {_KEY: _KEY_SCHEME}
        schemas = document["components"]["schemas"]
        for model in _ADDED_MODELS:
            schema = model.model_json_schema(ref_template=_REFERENCES)
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        for methods in document["paths"].values():
            for operation in methods.values():
                for status, answer in _SERVER_ERRORS.items():
                    operation["responses"].setdefault(str(status), answer)
                if str(UNAUTHORIZED.status) in operation["responses"]:
                    operation["security"] = [{}, {_KEY: []}]
        return document

    describe, app.openapi = app.openapi, openapi  # type: ignore[method-assign]

    @lru_cache(maxsize=8)
    def text(prefix: str | None) -> bytes:
        document = app.openapi()
        return to_json(document if prefix is None else {**document, "servers": [{"url": prefix}]})

    @app.api_route(
        "/openapi.json",
        methods=["GET", "HEAD"],
        dependencies=[Depends(private("/docs"))],
        include_in_schema=False,
    )
    async def document(request: Request) -> Response:
        return Response(text(request.scope.get(PREFIX)), media_type="application/json")
