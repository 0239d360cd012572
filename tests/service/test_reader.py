"""Requests that are read together."""

import json
from typing import Any

import pytest

from service.api.errors import ProblemError
from service.observability.request_timing import Timeline
from service.ocr.exceptions import PictureError, UndecodableError
from service.ocr.recognizer import Recognizer
from service.runtime.predictor import AT_ONCE, Reader
from service.settings import Settings
from tests import stripes
from tests.service.test_questions import BETWEEN_A_AND_B


@pytest.fixture
def reader(recognizer: Recognizer, settings: Settings) -> Reader:
    """A reader of the stripe model."""
    return Reader.of(recognizer, settings)


def decoded(outcome: bytes | Exception) -> Any:
    assert isinstance(outcome, bytes), outcome
    return json.loads(outcome)


def test_each_is_asked_its_own_question(reader: Reader) -> None:
    """Pictures that are read together are answered as each would be alone."""
    requests = [
        (BETWEEN_A_AND_B, b"", Timeline()),
        (BETWEEN_A_AND_B, b"alternatives=2", Timeline()),
        (BETWEEN_A_AND_B, b"alphabet=ac&min_confidence=1", Timeline()),
        (stripes.picture("abcd"), b"matrix=true", Timeline()),
    ]
    together = [decoded(outcome) for outcome in reader.answer_each(requests)]
    assert together == [decoded(*reader.answer_each([request])) for request in requests]
    assert [answer["text"] for answer in together] == ["b", "b", "a", "abcd"]


@pytest.fixture
def sizes(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of the model was given."""
    infer, sizes = recognizer.infer, []

    def counted(tensors: Any) -> Any:
        sizes.append(len(tensors))
        return infer(tensors)

    monkeypatch.setattr(recognizer, "infer", counted)
    return sizes


def check_turns(timelines: list[Timeline], turns: int) -> None:
    """Each has gone through the model once, in so many turns."""
    (began,) = zip(*([read.infer[0] for read in t.reads] for t in timelines), strict=True)
    assert list(began) == sorted(began)
    assert len(set(began)) == turns


TEXTS = ["a", "ab", "dcba", "", "b", "c", "cd", "dab", "bac", "d"]


def test_many_go_through_the_model_a_few_at_a_time(reader: Reader, sizes: list[int]) -> None:
    """And each is told when that was; one that is broken has had no turn."""
    pictures = list(map(stripes.picture, TEXTS))
    pictures[5] = b"broken"
    requests = [(picture, b"", Timeline()) for picture in pictures]
    outcomes = reader.answer_each(requests)
    assert isinstance(outcomes.pop(5), PictureError)
    assert [decoded(outcome)["text"] for outcome in outcomes] == TEXTS[:5] + TEXTS[6:]
    assert sizes == [4, 3, 2]
    timelines = [timeline for _, _, timeline in requests]
    assert timelines.pop(5).reads == []
    check_turns(timelines, 3)


def test_so_do_those_that_are_decoded(reader: Reader, sizes: list[int]) -> None:
    """Where the event loop decoded them."""
    recognizer = reader.recognizer
    fitted = map(recognizer.fit, map(stripes.picture, TEXTS))
    requests = [(one, (0.0, 0.0), Timeline()) for one in fitted]
    assert [recognizer.codec.decode(rows) for rows in reader.infer_each(requests)] == TEXTS
    assert sizes == [4, 4, 2]
    check_turns([timeline for _, _, timeline in requests], 3)


def test_one_that_is_wrong_harms_no_other(reader: Reader) -> None:
    """A broken picture and an impossible question each get their own problem."""
    good = (stripes.picture("ab"), b"", Timeline())
    broken = (stripes.picture("ab")[:60], b"", Timeline())
    impossible = (stripes.picture("ab"), b"length=0", Timeline())
    first, second, third, fourth = reader.answer_each([broken, good, impossible, good])
    assert isinstance(first, UndecodableError)
    assert isinstance(third, ProblemError)
    assert decoded(second)["text"] == decoded(fourth)["text"] == "ab"
    assert len(reader.answer_each([broken, impossible])) == 2
    assert len(good[2].reads) == 2
    assert broken[2].reads == impossible[2].reads == []


def test_a_batch_comes_as_json(reader: Reader) -> None:
    """Written by the thread that reads it, so that a large answer does not hold up the others."""
    question, _ = reader.questioner.ask(b"matrix=true")
    items = reader.answer_batch([stripes.picture("ab"), b"nothing"], question, 0.0)
    read, refused = map(decoded, items)
    assert len(read["prediction"]["matrix"]["probabilities"]) == stripes.TIME_STEPS
    assert refused["problem"]["type"] == "/problems/unsupported-format"


def test_readings_are_observed(recognizer: Recognizer, settings: Settings) -> None:
    """Each with the size of its own picture; what could not be read is not."""
    seen: list[tuple[int, str]] = []
    reader = Reader.of(recognizer, settings, lambda size, found: seen.append((size, found.text)))
    pictures = [stripes.picture("ab"), b"nothing", stripes.picture("cdcdcd")]
    reader.answer_each([(picture, b"", Timeline()) for picture in pictures])
    assert seen == [(len(pictures[0]), "ab"), (len(pictures[2]), "cdcdcd")]


def test_the_check_before_serving_covers_every_batch(
    recognizer: Recognizer, sizes: list[int]
) -> None:
    """The session's memory does not grow later, and each size reads what it should."""
    recognizer.verify(AT_ONCE)
    assert set(sizes) == set(range(1, AT_ONCE + 1))
