"""What is asked of the service, and what its answers mean; sends nothing itself."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar

from httpx2 import RequestError, Response

from service.client.answers import Model, Prediction, Problem
from service.client.exceptions import ProblemError, UnexpectedAnswerError, UnreachableError
from service.client.retry import UNAVAILABLE

T = TypeVar("T")

Picture = bytes | str | Path
"""The bytes of a file, or its path."""


class Question(TypedDict, total=False):
    """The parameters of `POST /predict`; one that is absent or None is as the service says."""

    alternatives: int | None
    length: int | str | None
    alphabet: str | None
    pattern: str | None
    min_confidence: float | None


_LONGEST_ECHO = 200


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[Mapping[str, Any]], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[tuple[str, tuple[str, bytes]]] | None = None
    unavailable: T | None = None
    """The answer that a 503 is; None where it is an error."""


def predict_call(picture: Picture, question: Question) -> Call[Prediction]:
    """Reads a picture."""
    files = _form("file", [picture])
    return Call("POST", "/predict", Prediction.from_json, _given(question), files)


def batch_call(pictures: Sequence[Picture], question: Question) -> Call[list[Prediction | Problem]]:
    """Reads several pictures; the answer has what became of each, in their order."""

    def read(answer: Mapping[str, Any]) -> list[Prediction | Problem]:
        outcomes = [_outcome(item) for item in answer["answers"]]
        if len(outcomes) != len(pictures):
            raise ValueError(f"{len(outcomes)} answers to {len(pictures)} pictures")
        return outcomes

    files = _form("files", pictures)
    return Call("POST", "/predict/batch", read, _given(question), files)


def _outcome(item: Mapping[str, Any]) -> Prediction | Problem:
    if item["problem"] is not None:
        return Problem.from_json(item["problem"])
    return Prediction.from_json(item["prediction"])


def _given(question: Question) -> Mapping[str, Any]:
    if unknown := question.keys() - Question.__annotations__:
        raise TypeError(f"there is no parameter {sorted(unknown)[0]!r} of a question")
    return {name: value for name, value in question.items() if value is not None}


def _form(field: str, pictures: Sequence[Picture]) -> Sequence[tuple[str, tuple[str, bytes]]]:
    """Under a name of no meaning: that of a file may be nobody's business."""
    return [
        (field, ("picture", picture if isinstance(picture, bytes) else Path(picture).read_bytes()))
        for picture in pictures
    ]


def model_call() -> Call[Model]:
    """Asks for the model that is served."""
    return Call("GET", "/model", Model.from_json)


def health_call(kind: str) -> Call[bool]:
    """Asks for the health check `live` or `ready`; False where it answers that it is not."""
    return Call("GET", f"/health/{kind}", lambda _: True, unavailable=False)


def answer_of(call: Call[T], response: Response) -> T:
    """What a response says.

    Raises:
        ProblemError, UnexpectedAnswerError
    """
    try:
        if response.is_success:
            return call.read(response.json())
        if response.status_code == UNAVAILABLE and call.unavailable is not None:
            return call.unavailable
        problem = Problem.from_json({**response.json(), "status": response.status_code})
        error = ProblemError(problem.type, problem.title, problem.status, problem.detail)
    except (KeyError, IndexError, TypeError, ValueError) as reason:
        raise UnexpectedAnswerError(
            f"{call.method} {response.url} was answered with {response.status_code} and "
            f"{response.text[:_LONGEST_ECHO]!r}, which is none of this service's answers."
        ) from reason
    raise error


@contextmanager
def reaching(address: str) -> Iterator[None]:
    """Turns what the HTTP library raises into this package's error."""
    try:
        yield
    except RequestError as error:
        reason = str(error) or type(error).__name__
        raise UnreachableError(f"no answer from {address}: {reason}") from error
