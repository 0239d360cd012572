"""The OpenAPI document, and what FastAPI cannot know of it."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from service.inference.schemas import InferenceBody
from service.problems import Problem

_REFERENCES = "#/components/schemas/{model}"

_READ_BY_HAND = (Problem, InferenceBody)
"""FastAPI describes what it reads and writes itself, as application/json; these are neither."""


def reference(model: type[BaseModel]) -> dict[str, str]:
    """The schema of one of the models that this module adds to the document."""
    return {"$ref": _REFERENCES.format(model=model.__name__)}


def install(app: FastAPI) -> None:
    """Adds the schemas that routes refer to."""

    def openapi() -> dict[str, Any]:
        document = describe()
        schemas = document["components"]["schemas"]
        for model in _READ_BY_HAND:
            schema = model.model_json_schema(ref_template=_REFERENCES)
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        return document

    describe, app.openapi = app.openapi, openapi  # type: ignore[method-assign]
