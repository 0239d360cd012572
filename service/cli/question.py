"""Turns the options of a command into a question."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from service.ocr.decoding.decoder import Question


def question_of(
    model_alphabet: str,
    alternatives: int,
    length: str | None,
    alphabet: str | None,
    pattern: str | None,
) -> "Question":
    """Gives the question. Ends the command with an explanation where a constraint is wrong."""
    from service.ocr.decoding.decoder import Question

    given = {"length": length, "alphabet": alphabet, "pattern": pattern}
    if all(value is None for value in given.values()):
        # Importing what compiles constraints imports pydantic.
        return Question(alternatives)
    from pydantic import ValidationError

    from service.query_params import Defaults, InvalidParameterError, Questions

    try:
        parameters = Defaults(
            alternatives=alternatives, length=length, alphabet=alphabet, pattern=pattern
        )
        question, _ = Questions(model_alphabet, 0.0, parameters).default
    except InvalidParameterError as error:
        raise typer.BadParameter(str(error)) from error
    except ValidationError as error:
        wrong = error.errors()[0]
        raise typer.BadParameter(f"{wrong['loc'][0]}: {wrong['msg']}") from error
    return question
