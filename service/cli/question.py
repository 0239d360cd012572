"""The query parameters of `POST /predict` as command line options, and their question."""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import typer
from pydantic.fields import FieldInfo

from service.query_params import Defaults, InvalidParameterError, QueryParams, Questions

if TYPE_CHECKING:
    from service.ocr.decoding.decoder import Question
    from service.ocr.metadata import ModelMetadata

Given = Mapping[str, Any]
"""The values of the options, by the name of the parameter."""


def question_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that replaces a command's `**question` with an option for each parameter."""

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        options = [_option(name, QueryParams.model_fields[name]) for name in names]
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *options]
        )
        return command

    return with_options


def question_of(model: "ModelMetadata", given: Given) -> "tuple[Question, float]":
    """The question to a model, and the lowest confidence that is accepted.

    Ends the command with an error message if an option is wrong.
    """
    try:
        return Questions(model.alphabet, model.min_confidence, Defaults()).ask(query_of(given))
    except InvalidParameterError as error:
        raise typer.BadParameter(str(error)) from error


def query_of(given: Given) -> bytes:
    """The query string that asks `POST /predict` the same question."""
    values = {n: value for n, value in given.items() if value is not None and value is not False}
    return urlencode(values, errors="surrogateescape").encode()


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    bounds = {
        of_typer: getattr(constraint, of_pydantic)
        for constraint in field.metadata
        for of_typer, of_pydantic in (("min", "ge"), ("max", "le"))
        if hasattr(constraint, of_pydantic)
    }
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=field.description,
        envvar=f"OCR_{name.upper()}" if name in Defaults.model_fields else None,
        **bounds,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[field.annotation, option],
    )
