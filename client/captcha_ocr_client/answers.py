"""The answers of the service as dataclasses. Unknown members of the JSON are ignored."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


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
        characters: those of `text`, from left to right.
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
            text=answer["text"],
            confidence=answer["confidence"],
            accepted=answer["accepted"],
            characters=tuple(
                Character(c["character"], c["confidence"], (c["span"][0], c["span"][1]))
                for c in answer["characters"]
            ),
            alternatives=tuple(
                Alternative(a["text"], a["confidence"]) for a in answer["alternatives"]
            ),
            reason=answer["reason"],
            model=ModelReference(answer["model"]["name"], answer["model"]["version"]),
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
            KeyError, TypeError: it is not a problem.
        """
        return cls(answer["type"], answer["title"], answer["status"], answer["detail"])


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
            KeyError, TypeError: it is not a model.
        """
        return cls(**{field.name: answer[field.name] for field in fields(cls)})
