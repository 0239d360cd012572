"""The OpenAPI document, and what FastAPI cannot know of it."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from service.inference.schemas import InferenceBody
from service.problems import HEADERS_TOO_LARGE, TIMEOUT, Problem, documented

_REFERENCES = "#/components/schemas/{model}"

_READ_BY_HAND = (Problem, InferenceBody)
"""FastAPI describes what it reads and writes itself, as application/json; these are neither."""


_BEFORE_ANY_ROUTE = documented(TIMEOUT, HEADERS_TOO_LARGE)
"""What the server itself answers."""

_KEY = "ApiKey"
_KEY_SCHEME = {
    "type": "apiKey",
    "in": "header",
    "name": "X-API-Key",
    "description": "Needed where the service has been given keys; a bearer token will do, too.",
}


def reference(model: type[BaseModel]) -> dict[str, str]:
    """The schema of one of the models that this module adds to the document."""
    return {"$ref": _REFERENCES.format(model=model.__name__)}


def install(app: FastAPI) -> None:
    """Adds the schemas that routes refer to, and what holds for all routes."""

    def openapi() -> dict[str, Any]:
        document = describe()
        document["components"]["securitySchemes"] = {_KEY: _KEY_SCHEME}
        schemas = document["components"]["schemas"]
        for model in _READ_BY_HAND:
            schema = model.model_json_schema(ref_template=_REFERENCES)
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        for methods in document["paths"].values():
            for method, operation in methods.items():
                for status, answer in _BEFORE_ANY_ROUTE.items():
                    operation["responses"].setdefault(str(status), answer)
                if method == "post":
                    operation["security"] = [{}, {_KEY: []}]
        return document

    describe, app.openapi = app.openapi, openapi  # type: ignore[method-assign]
