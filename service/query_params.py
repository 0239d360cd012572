"""The query parameters of `/predict`: their definition, and the questions that they make.

To add a parameter, add a field to `Defaults` or `QueryParams`, and give it its effect in
`Questions`. If reading must know the parameter, add a field to `Question` in
`service.ocr.decoding.decoder`, too. The setting `OCR_<NAME>`, the OpenAPI document, the check of
requests, the field on the page and the option of the command line follow from the field. Tests name
the rows that the documents need.

The command line imports this module for its help, so modules that are slow to import are imported
inside functions.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.ocr.exceptions import LONGEST_ECHO, ConstraintError, echo

if TYPE_CHECKING:
    from service.ocr.decoding.constraints import Automaton
    from service.ocr.decoding.decoder import Question
    from service.ocr.preprocessing import Region

CONSTRAINTS = ("length", "alphabet", "pattern")
"""The parameters that restrict the text."""

_LENGTH = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?")
_REGION = re.compile(r"([0-9]{1,5}),([0-9]{1,5}),([0-9]{1,5}),([0-9]{1,5})")
_MAX_PARAMETERS = 20
_CACHED_CONSTRAINTS = 64

_LONG_QUERY = 4096
"""Bytes above which a query is parsed in a thread: 64 KiB take 3 ms, most queries 0.005 ms."""


class Defaults(BaseModel):
    """The parameters whose defaults are settings of the service, `OCR_<NAME>`."""

    length: str | None = Field(
        default=None,
        min_length=1,
        title="Length",
        description="The number of characters in the text: `5`, or `4-7`.",
        examples=["5", "4-7"],
    )
    alphabet: str | None = Field(
        default=None,
        min_length=1,
        title="Only these characters",
        description="The only characters that may be in the text.",
        examples=["2345678"],
    )
    pattern: str | None = Field(
        default=None,
        min_length=1,
        title="Pattern",
        description="A regular expression that the whole text matches: literals, `.`, classes, "
        "groups, alternatives and the quantifiers `* + ? {m,n}`.",
        examples=["[2-8]{3}[a-z]{2}"],
    )
    alternatives: int | None = Field(
        default=None,
        ge=0,
        le=10,
        title="Alternatives",
        description="How many other texts to give, the most probable first.",
    )
    min_confidence: float | None = Field(
        default=None,
        ge=0,
        le=1,
        title="Least confidence",
        description="Below this confidence the answer has `accepted: false`. Default: the "
        "threshold in the model.",
    )


class QueryParams(Defaults):
    """The parameters of one request; the settings give those that are missing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    matrix: bool = Field(
        default=False,
        description="Whether to give the probability of every symbol at every time step.",
    )
    region: str | None = Field(
        default=None,
        title="Region",
        description="The only part of the picture to read: `x,y,width,height` in pixels, from the "
        "top left corner of the picture. Spans refer to the whole picture.",
        examples=["40,10,200,50"],
    )


class InvalidParameterError(Exception):
    """A parameter is invalid.

    Args:
        detail: what was given, and what is allowed.
        parameter: its name, or several names joined by "and"; empty if no parameter is to blame.
    """

    def __init__(self, detail: str, parameter: str = "") -> None:
        super().__init__(f"{parameter}: {detail}." if parameter else detail)


class Questions:
    """Turns query strings into questions to a model.

    Args:
        alphabet: the symbols that the model reads.
        min_confidence: the model's own threshold.
        defaults: values of parameters that a request leaves out.

    Raises:
        InvalidParameterError: the defaults do not fit the model.
    """

    def __init__(self, alphabet: str, min_confidence: float, defaults: Defaults) -> None:
        self._alphabet = alphabet
        self._min_confidence = min_confidence
        self._defaults = {name: getattr(defaults, name) for name in Defaults.model_fields}
        self._compiled: OrderedDict[tuple[tuple[str, str], ...], Automaton | str] = OrderedDict()
        """By names and values of parameters, the constraint or an error message; the one that was
        used last is the last."""
        self.default = self.ask(b"")

    def ask_cached(self, query: bytes) -> "tuple[Question, float] | None":
        """Like `ask`, but None if that would take long: the query is long, or its constraint is
        not cached.
        """
        if len(query) > _LONG_QUERY:
            return None
        params = _parse(query, self._defaults)
        given = _constraints(params)
        if given and tuple(given.items()) not in self._compiled:
            return None
        return self._question(params)

    def ask(self, query: bytes) -> "tuple[Question, float]":
        """The question, and the least confidence that is accepted.

        Args:
            query: the part of the URL after its question mark.

        Raises:
            InvalidParameterError: a parameter is invalid; the message says what is allowed.
        """
        return self._question(_parse(query, self._defaults))

    def _question(self, params: QueryParams) -> "tuple[Question, float]":
        from service.ocr.decoding.decoder import PLAIN, Question

        threshold = params.min_confidence
        if threshold is None:
            threshold = self._min_confidence
        constraint = self._constraint(_constraints(params))
        question = Question(
            params.alternatives or 0, constraint, params.matrix, _region(params.region)
        )
        return PLAIN if question == PLAIN else question, threshold

    def _constraint(self, given: Mapping[str, str]) -> "Automaton | None":
        """The texts that the parameters allow; None: all texts."""
        if not given:
            return None
        key = tuple(given.items())
        compiled = self._compiled.pop(key, None)
        if compiled is None:
            try:
                compiled = self._compile(given)
            except InvalidParameterError as error:
                # The exception itself would keep intermediate results in memory.
                compiled = str(error)
        self._compiled[key] = compiled
        if len(self._compiled) > _CACHED_CONSTRAINTS:
            self._compiled.popitem(last=False)
        if isinstance(compiled, str):
            raise InvalidParameterError(compiled)
        return compiled

    def _compile(self, given: Mapping[str, str]) -> "Automaton":
        """The texts that all these parameters allow."""
        from service.ocr.decoding.constraints import Automaton, of_pattern, of_symbols

        compilers: dict[str, Callable[[str], Automaton]] = {
            "length": self._of_length,
            "alphabet": lambda symbols: of_symbols(symbols, self._alphabet),
            "pattern": lambda pattern: of_pattern(pattern, self._alphabet),
        }
        automata = []
        for name, value in given.items():
            try:
                automata.append(compilers[name](value))
            except ConstraintError as error:
                raise InvalidParameterError(str(error), name) from error
        names = " and ".join(given)
        try:
            constraint = reduce(Automaton.intersect, automata).trimmed()
        except ConstraintError as error:
            raise InvalidParameterError(str(error), names) from error
        if constraint.is_empty:
            were = " and ".join(map(echo, given.values())) + (
                " was" if len(given) == 1 else " were"
            )
            raise InvalidParameterError(
                f"{were} given; no text over the model's alphabet {self._alphabet!r} fits", names
            )
        return constraint

    def _of_length(self, length: str) -> "Automaton":
        from service.ocr.decoding.constraints import of_length

        match = _LENGTH.fullmatch(length)
        shortest, longest = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= shortest <= longest:
            raise ConstraintError(
                f"{echo(length)} was given; give a number from 1 to 999, like 5, or a range, "
                "like 4-7"
            )
        return of_length(shortest, longest, self._alphabet)


def _constraints(params: QueryParams) -> dict[str, str]:
    """The given parameters that restrict the text."""
    return {n: value for n in CONSTRAINTS if (value := getattr(params, n)) is not None}


def _region(text: str | None) -> "Region | None":
    from service.ocr.preprocessing import Region

    if text is None:
        return None
    match = _REGION.fullmatch(text)
    region = Region(*map(int, match.groups())) if match else None
    if region is None or 0 in (region.width, region.height):
        raise InvalidParameterError(
            f"{echo(text)} was given; give x,y,width,height in pixels, like 40,10,200,50", "region"
        )
    return region


def _parse(query: bytes, defaults: dict[str, Any]) -> QueryParams:
    if not query.isascii():
        raise InvalidParameterError(
            "The query has characters beyond ASCII; percent-encode them: é is %C3%A9."
        )
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError as error:
        raise InvalidParameterError(f"There are more than {_MAX_PARAMETERS} parameters.") from error
    for name, times in Counter(name for name, _ in pairs).items():
        if times > 1 and name in QueryParams.model_fields:
            raise InvalidParameterError(f"it was given {times} times; give it once", name)
    try:
        return QueryParams.model_validate(defaults | dict(pairs))
    except ValidationError as error:
        raise InvalidParameterError("; ".join(map(_describe, error.errors()[:3]))) from error


def _describe(error: Any) -> str:
    """An error message for one parameter, from pydantic's error."""
    name = str(error["loc"][-1])
    if error["type"] == "extra_forbidden":
        return f"{name[:LONGEST_ECHO]}: there is no such parameter; /docs lists all parameters"
    return f"{name}: {echo(error['input'])} was given; {error['msg']}"
