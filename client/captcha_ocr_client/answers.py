"""The answers of the service as dataclasses. Unknown members of the JSON are ignored."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


def _typed(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise TypeError(f"{value!r} is none of {kinds}")
    return value


def _text(value: Any) -> str:
    text: str = _typed(value, str)
    text.encode()  # a lone surrogate raises a ValueError here, not where the text is printed
    return text


def _number(value: Any) -> float:
    number = _typed(value, int, float)
    if not -sys.float_info.max <= number <= sys.float_info.max:
        raise ValueError("a number is not finite, or too large")
    return float(number)


def _confidence(value: Any) -> float:
    number = _number(value)
    if not 0 <= number <= 1:
        raise ValueError(f"the confidence is {number}, not 0 to 1")
    return number


@dataclass(frozen=True, slots=True)
class Character:
    """One character: its confidence, 0 to 1, and its left and right edge in pixels."""

    character: str
    confidence: float
    span: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another text that the picture may show, and its confidence, 0 to 1."""

    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class ModelReference:
    """Name and version of the model that answered."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one picture shows.

    Args:
        text: empty if the picture shows no text.
        confidence: calibrated probability that the whole text is right, 0 to 1.
        accepted: whether `confidence` is at least `min_confidence`.
        characters: the characters of `text`, from left to right.
        alternatives: other texts, the most probable first.
        reason: why there is no text; None if there is one.
        model: the model that answered.
    """

    text: str
    confidence: float
    accepted: bool
    characters: tuple[Character, ...]
    alternatives: tuple[Alternative, ...]
    reason: str | None
    model: ModelReference

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Self:
        """Reads a JSON object.

        Raises:
            KeyError, TypeError, ValueError: it is not a prediction.
        """
        return cls(
            text=_text(answer["text"]),
            confidence=_confidence(answer["confidence"]),
            accepted=_typed(answer["accepted"], bool),
            characters=tuple(
                Character(
                    _text(c["character"]),
                    _confidence(c["confidence"]),
                    (_number(c["span"][0]), _number(c["span"][1])),
                )
                for c in _typed(answer["characters"], list)
            ),
            alternatives=tuple(
                Alternative(_text(a["text"]), _confidence(a["confidence"]))
                for a in _typed(answer["alternatives"], list)
            ),
            reason=None if answer["reason"] is None else _text(answer["reason"]),
            model=ModelReference(_text(answer["model"]["name"]), _text(answer["model"]["version"])),
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """What was wrong with a request or a picture (RFC 9457).

    Args:
        type: the kind of problem, such as `/problems/undecodable-picture`.
        title: the kind of problem in words.
        status: the HTTP status code.
        detail: what was wrong this time, and what would be right.
    """

    type: str
    title: str
    status: int
    detail: str

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Self:
        """Reads a JSON object.

        Raises:
            KeyError, TypeError, ValueError: it is not a problem.
        """
        type_, title, detail = (_text(answer[name]) for name in ("type", "title", "detail"))
        return cls(type_, title, _typed(answer["status"], int), detail)


@dataclass(frozen=True, slots=True)
class Model:
    """The model that is served, as `GET /model` describes it."""

    name: str
    version: str
    alphabet: str
    blank_index: int
    width: int
    height: int
    training_run: str
    data_digest: str
    figures: Mapping[str, Any]

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Self:
        """Reads a JSON object.

        Raises:
            KeyError, TypeError, ValueError: it is not a model.
        """
        members = {field.name: answer[field.name] for field in fields(cls)}
        for field in fields(cls):
            _typed(members[field.name], field.type if field.type in (str, int) else dict)
        return cls(**members)
