"""What a request may ask besides the text: the query parameters of `/predict`."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache, reduce
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.api.errors import INVALID_PARAMETER, ProblemError, invalid_parameters
from service.ocr.decoding.constraints import Automaton, of_length, of_pattern, of_symbols
from service.ocr.decoding.decoder import PLAIN, Question
from service.ocr.exceptions import ConstraintError, echo

MOST_ALTERNATIVES = 10
_LENGTH = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?")


class QuestionParameters(BaseModel):
    """The query parameters; what is absent is as the service's settings say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alternatives: int | None = Field(
        default=None,
        ge=0,
        le=MOST_ALTERNATIVES,
        description="How many of the most probable other texts to give.",
    )
    length: str | None = Field(
        default=None,
        min_length=1,
        description="How many characters the text has: `5`, or `4-7`.",
        examples=["5", "4-7"],
    )
    alphabet: str | None = Field(
        default=None,
        min_length=1,
        description="The only characters that the text may have.",
        examples=["2345678"],
    )
    pattern: str | None = Field(
        default=None,
        min_length=1,
        description="A regular expression that the whole text matches: literals, `.`, classes, "
        "groups, `|` and the quantifiers `* + ? {m,n}`.",
        examples=["[2-8]{3}[a-z]{2}"],
    )
    min_confidence: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Below this confidence the answer has `accepted: false`, and still the text.",
    )
    matrix: bool = Field(
        default=False,
        description="Whether to give the probability of every symbol at every time step, too.",
    )

    def over(self, defaults: "QuestionParameters") -> "QuestionParameters":
        """These parameters, and those of the defaults that are absent here."""
        return self.model_copy(
            update={
                name: value
                for name, value in defaults
                if value is not None and getattr(self, name) is None
            }
        )


def _parameters(query: bytes) -> QuestionParameters:
    """The parameters of a request.

    Raises:
        ProblemError: one of them is unknown, or its value is not of its kind.
    """
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=20)
        for name, times in Counter(name for name, _ in pairs).items():
            if times > 1 and name in QuestionParameters.model_fields:
                raise _invalid(name, f"it was given {times} times; give it once")
        return QuestionParameters.model_validate(dict(pairs), by_name=True)
    except ValidationError as error:
        raise invalid_parameters(error.errors()) from error
    except ValueError as error:
        raise ProblemError(INVALID_PARAMETER, "There are more than 20 parameters.") from error


@dataclass(frozen=True, slots=True)
class _Part:
    """One constraint of a request, and the parameter that asked for it."""

    parameter: str
    automaton: Automaton


class Questioner:
    """Turns parameters into questions to a model.

    Args:
        model_alphabet: what the model can read.
        defaults: for parameters that a request leaves out.

    Raises:
        ProblemError: the defaults themselves do not fit the model.
    """

    def __init__(self, model_alphabet: str, defaults: QuestionParameters) -> None:
        self._alphabet = model_alphabet
        self._defaults = defaults
        # Clients repeat themselves, and a pattern takes longer to compile than a picture to read.
        self._remembered = lru_cache(maxsize=64)(self._asked_or_refused)
        self.ask(b"")

    def ask(self, query: bytes) -> tuple[Question, float]:
        """The question, and the least confidence that is accepted.

        Args:
            query: the part of the address behind its question mark.

        Raises:
            ProblemError: names the parameter, what was given and what is allowed.
        """
        asked = self.asked(query)
        if isinstance(asked, ProblemError):
            raise asked
        return asked

    def asked(self, query: bytes) -> tuple[Question, float] | ProblemError:
        """As `ask`, but an error is returned."""
        asked = self._remembered(query)
        if isinstance(asked, ProblemError):
            # A new one, since an exception holds on to every frame that it was ever raised in.
            return ProblemError(asked.kind, asked.detail)
        return asked

    def _asked_or_refused(self, query: bytes) -> tuple[Question, float] | ProblemError:
        """A refusal is remembered, too, so that repeating it costs nothing."""
        try:
            asked = _parameters(query).over(self._defaults)
            constraint = self._compiled(asked.length, asked.alphabet, asked.pattern)
        except ProblemError as error:
            # Itself, or its cause, holds on to all that was worked out until then.
            return ProblemError(error.kind, error.detail)
        alternatives = asked.alternatives or 0
        plain = not (alternatives or constraint or asked.matrix)
        question = PLAIN if plain else Question(alternatives, constraint, asked.matrix)
        return question, asked.min_confidence or 0.0

    def _compiled(
        self, length: str | None, symbols: str | None, pattern: str | None
    ) -> Automaton | None:
        parts = []
        if length is not None:
            parts.append(_Part("length", self._of_length(length)))
        if symbols is not None:
            parts.append(_Part("alphabet", self._of_symbols(symbols)))
        if pattern is not None:
            parts.append(_Part("pattern", self._of_pattern(pattern)))
        if not parts:
            return None
        try:
            both = reduce(Automaton.intersect, (part.automaton for part in parts)).trimmed()
        except ConstraintError as error:
            raise _invalid(" and ".join(p.parameter for p in parts), str(error)) from error
        if both.is_empty:
            names = " and ".join(part.parameter for part in parts)
            given = [echo(g) for g in (length, symbols, pattern) if g is not None]
            were = " and ".join(given) + (" was" if len(given) == 1 else " were")
            raise _invalid(
                names,
                f"{were} given; no text over the model's alphabet {self._alphabet!r} fits",
            )
        return both

    def _of_length(self, length: str) -> Automaton:
        match = _LENGTH.fullmatch(length)
        shortest, longest = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= shortest <= longest:
            raise _invalid(
                "length",
                f"{echo(length)} was given; give a number from 1 to 999, like 5, or a range, "
                "like 4-7",
            )
        return of_length(shortest, longest, self._alphabet)

    def _of_symbols(self, symbols: str) -> Automaton:
        try:
            return of_symbols(symbols, self._alphabet)
        except ConstraintError as error:
            raise _invalid("alphabet", str(error)) from error

    def _of_pattern(self, pattern: str) -> Automaton:
        try:
            return of_pattern(pattern, self._alphabet)
        except ConstraintError as error:
            raise _invalid("pattern", str(error)) from error


def _invalid(parameter: str, detail: str) -> ProblemError:
    return ProblemError(INVALID_PARAMETER, f"{parameter}: {detail}.")
