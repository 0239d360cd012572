"""The answers of the service, typed; members that this version does not know are left out."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Character:
    """One character: its confidence 0 to 1, and where it stands in pixels from the left."""

    character: str
    confidence: float
    span: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another text that the picture may say, and its confidence, 0 to 1."""

    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class ModelReference:
    """The model that gave an answer."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one picture says.

    Args:
        text: empty where the picture shows none.
        confidence: calibrated, 0 to 1.
        accepted: whether the confidence is at least the one that was asked for.
        alternatives: the best first; as many as were asked for.
        reason: why there is no text, where the constraints leave none.
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
        """The prediction of a JSON object.

        Raises:
            KeyError, TypeError, ValueError: it is none.
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
    """What was wrong (RFC 9457).

    Args:
        type: names the kind of problem; the same for every occurrence.
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
        """The problem of a JSON object.

        Raises:
            KeyError, TypeError: it is none.
        """
        return cls(answer["type"], answer["title"], answer["status"], answer["detail"])


@dataclass(frozen=True, slots=True)
class Model:
    """The model that is served; see `GET /model` in the service's `/docs`."""

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
        """The model of a JSON object.

        Raises:
            KeyError, TypeError: it is none.
        """
        return cls(**{field.name: answer[field.name] for field in fields(cls)})
