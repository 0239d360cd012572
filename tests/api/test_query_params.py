import re
import tracemalloc
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.api.app import create_app
from service.ocr.recognizer import Recognizer
from service.query_params import Defaults, InvalidParameterError, QueryParams, Questions
from service.settings import Settings
from tests import stripes
from tests.api.test_predict import assert_problem, post


def gray(*levels: float) -> bytes:
    """A picture of stripes in any gray level."""
    row = np.repeat(np.array(levels) * 255, 4).round().astype(np.uint8)
    padded = np.pad(row, (0, stripes.WIDTH - len(row)), constant_values=255)
    return stripes.encode(Image.fromarray(np.tile(padded, (stripes.HEIGHT, 1))))


BETWEEN_A_AND_B = gray(32 / 255)
"""A stripe a little nearer to "b" (0.25) than to "a" (0)."""


def test_alternatives(client: TestClient) -> None:
    """The second guess and its confidence, where they are asked for."""
    answer = post(client, BETWEEN_A_AND_B, params={"alternatives": 1}).json()
    assert answer["text"] == "b"
    (second,) = answer["alternatives"]
    assert second["text"] == "a"
    assert second["confidence"] == pytest.approx(1 - answer["confidence"], abs=0.001)
    assert 0.5 < answer["confidence"] < 0.9
    assert answer["characters"][0]["confidence"] == pytest.approx(answer["confidence"], abs=0.01)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"length": "2"}, r"..$"),
        ({"length": "2-3"}, r"...?$"),
        ({"alphabet": "ac"}, r"a$"),
        ({"pattern": "[ad]"}, r"a$"),
        ({"pattern": "b|dd", "length": "2"}, r"dd$"),
    ],
)
def test_constraints(parameters: dict[str, str], text: str, client: TestClient) -> None:
    """The answer is the most probable text that satisfies them all."""
    answer = post(client, BETWEEN_A_AND_B, params=parameters).json()
    assert re.match(text, answer["text"]), answer
    assert len(answer["characters"]) == len(answer["text"])
    assert answer["reason"] is None


def test_region(client: TestClient) -> None:
    """Only that part is read; spans are in the pixels of the whole picture."""
    sheet = Image.new("L", (200, 100), 255)
    sheet.paste(stripes.draw("ab"), (120, 60))
    picture = stripes.encode(sheet)
    alone = post(client, stripes.picture("ab")).json()
    answer = post(client, picture, params={"region": "120,60,40,8", "matrix": True}).json()
    assert answer["text"] == alone["text"] == "ab"
    assert [c["span"] for c in answer["characters"]] == [
        [120 + left, 120 + right] for left, right in (c["span"] for c in alone["characters"])
    ]
    assert len(answer["matrix"]["probabilities"]) == stripes.TIME_STEPS
    files = [("files", picture), ("files", stripes.picture("ab"))]
    first, second = client.post(
        "/predict/batch", files=files, params={"region": "120,60,40,8"}
    ).json()["answers"]
    assert first["prediction"]["text"] == "ab"
    assert second["problem"]["type"] == "/problems/invalid-parameter"


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ("", "give x,y,width,height"),
        ("1,2,3", "give x,y,width,height"),
        ("0,0,0,8", "give x,y,width,height"),
        ("-1,0,4,8", "give x,y,width,height"),
        ("0,0,41,8", "0,0,41,8 was given; it must lie within the picture, which has 40×8"),
        ("99999,99999,99999,99999", "which has 40×8"),
    ],
)
def test_a_region_that_is_none(region: str, said: str, client: TestClient) -> None:
    """The problem says what would be one."""
    response = post(client, stripes.picture("ab"), params={"region": region})
    assert_problem(response, 422, "invalid-parameter", "region: ")
    assert said in response.json()["detail"]


def test_constraints_that_do_not_fit_the_picture(client: TestClient) -> None:
    """Where no text can satisfy them in this picture: 200, no text, confidence 0, a reason."""
    response = post(client, stripes.picture("ab"), params={"length": "11"})
    answer = response.json()
    assert response.status_code == 200
    assert (answer["text"], answer["confidence"], answer["accepted"]) == ("", 0, False)
    assert "constraints" in answer["reason"]


def test_min_confidence(client: TestClient) -> None:
    """Below it the answer is not accepted, and still has its text."""
    for threshold, accepted in ((0.5, True), (0.95, False)):
        answer = post(client, BETWEEN_A_AND_B, params={"min_confidence": threshold}).json()
        assert (answer["text"], answer["accepted"]) == ("b", accepted)


@pytest.mark.parametrize(
    ("parameters", "name", "allowed"),
    [
        ({"alternatives": "99"}, "alternatives", "less than or equal to 10"),
        ({"alternatives": "-1"}, "alternatives", "greater than or equal to 0"),
        ({"alternatives": "many"}, "alternatives", "integer"),
        ({"length": "0"}, "length", "a number from 1 to 999, like 5, or a range"),
        ({"length": "1000"}, "length", "a number from 1 to 999, like 5, or a range"),
        ({"length": "7-4"}, "length", "a number from 1 to 999, like 5, or a range"),
        ({"length": "five"}, "length", "a number from 1 to 999, like 5, or a range"),
        ({"alphabet": "abX"}, "alphabet", "'X', which the alphabet 'abcd' lacks"),
        ({"alphabet": ""}, "alphabet", "at least 1 character"),
        ({"pattern": "a(?=b)"}, "pattern", "supported are"),
        ({"pattern": "a", "length": "2"}, "length and pattern", "'2' and 'a' were given; no text"),
        ({"pattern": "XYZ"}, "pattern", "no text over the model's alphabet 'abcd'"),
        ({"pattern": "aa", "length": "3"}, "length and pattern", "no text"),
        ({"min_confidence": "2"}, "min_confidence", "less than or equal to 1"),
        ({"pattern": ""}, "pattern", "at least 1 character"),
        ({"length": "\u0665"}, "length", "a number from 1 to 999, like 5, or a range"),
    ],
)
def test_bad_parameters(
    parameters: dict[str, str], name: str, allowed: str, client: TestClient
) -> None:
    """The parameter is named, with what was given and what is allowed."""
    response = post(client, stripes.picture("ab"), params=parameters)
    assert_problem(response, 422, "invalid-parameter", allowed)
    assert response.json()["detail"].startswith(name)
    given = next(iter(parameters.values()))
    assert given in response.json()["detail"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"length": "5" * 5000},
        {"alphabet": "X" * 5000},
        {"alphabet": "".join(map(chr, range(1000, 4000)))},
        {"alphabet": "a" * 5000, "pattern": "b"},
    ],
)
def test_long_parameters(parameters: dict[str, str], client: TestClient) -> None:
    """They are sent back as far as one needs to know them again."""
    response = post(client, stripes.picture("ab"), params=parameters)
    name = next(iter(parameters))
    assert_problem(response, 422, "invalid-parameter", name)
    assert parameters[name][:20] in response.json()["detail"]
    assert len(response.json()["detail"]) < 500


def test_a_parameter_is_given_once(client: TestClient) -> None:
    """Which of two is meant is not guessed."""
    response = post(client, stripes.picture("ab"), params={"length": ["5", "4"]})
    assert_problem(response, 422, "invalid-parameter", "length: it was given 2 times; give it once")


def test_an_unknown_parameter(client: TestClient) -> None:
    """It is named, and where the known ones are listed; its value is not sent back at length."""
    response = post(client, stripes.picture("ab"), params={"colour": "red" * 1000})
    assert_problem(response, 422, "invalid-parameter", "colour: there is no such parameter; /docs")
    assert len(response.text) < 500


def test_a_refused_pattern_is_refused_again(client: TestClient) -> None:
    """A refusal that is remembered reads like the first one."""
    answers = [
        post(client, stripes.picture("ab"), params={"pattern": "a(?=b)"}).json() for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert answers[0]["status"] == 422


def test_a_refusal_that_is_repeated_keeps_nothing() -> None:
    """However often it is asked for, it does not gather the frames that it was raised in."""
    questions = Questions(stripes.ALPHABET, 0, Defaults())
    frames = []
    for _ in range(5):
        with pytest.raises(InvalidParameterError) as refused:
            questions.ask(b"length=0")
        frames.append(len(refused.traceback))
    assert len(set(frames)) == 1


def test_a_refusal_that_is_remembered_keeps_nothing() -> None:
    """What was computed until it was clear that a pattern takes too much is freed."""
    questions = Questions("ab", 0, Defaults())
    tracemalloc.start()
    try:
        for longest in range(900, 904):
            query = f"length=1-{longest}&pattern=.*b.{{8}}".encode()
            with pytest.raises(InvalidParameterError):
                questions.ask(query)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000


def test_raw_characters_beyond_ascii_get_a_hint() -> None:
    """In an address they are percent-encoded (RFC 3986)."""
    questions = Questions("é", 0, Defaults())
    with pytest.raises(InvalidParameterError, match="percent-encode"):
        questions.ask("alphabet=é".encode())
    assert questions.ask(b"alphabet=%C3%A9")[0].constraint is not None


def test_one_definition_gives_setting_and_parameter() -> None:
    """Each parameter with a default has a setting of its name, type and description."""
    for name, field in Defaults.model_fields.items():
        assert Settings.model_fields[name].description == field.description
        assert QueryParams.model_fields[name].annotation == field.annotation


@pytest.mark.parametrize(
    ("setting", "query", "accepted"),
    [(None, {}, False), (0.2, {}, True), (None, {"min_confidence": 0.2}, True)],
)
def test_the_threshold_of_the_model(
    setting: float | None,
    query: dict[str, float],
    accepted: bool,
    stripe_model: Path,
) -> None:
    """It is the default, which a setting replaces, and a parameter in turn."""
    settings = Settings(model_path=stripe_model, min_confidence=setting)
    recognizer = Recognizer.load(stripe_model)
    recognizer.metadata = replace(recognizer.metadata, min_confidence=0.99)
    loading = patch.object(Recognizer, "load", return_value=recognizer)
    with loading, TestClient(create_app(settings)) as client:
        assert client.get("/model").json()["min_confidence"] == 0.99
        answer = post(client, BETWEEN_A_AND_B, params=query).json()
    assert answer["accepted"] is accepted


def test_accepted_agrees_with_what_is_shown(client: TestClient) -> None:
    """The confidence that an answer shows is itself accepted as the least one."""
    shown = post(client, BETWEEN_A_AND_B).json()["confidence"]
    for threshold, accepted in ((shown, True), (shown + 1e-6, False)):
        parameters = {"min_confidence": f"{threshold:.6f}"}
        assert post(client, BETWEEN_A_AND_B, params=parameters).json()["accepted"] is accepted


def test_defaults_of_the_service(stripe_model: Path) -> None:
    """Settings apply where a request leaves a parameter out, and only there."""
    settings = Settings(model_path=stripe_model, alphabet="abc", alternatives=1)
    with TestClient(create_app(settings)) as client:
        answer = post(client, BETWEEN_A_AND_B).json()
        assert (answer["text"], len(answer["alternatives"])) == ("b", 1)
        own = post(client, BETWEEN_A_AND_B, params={"alphabet": "a", "alternatives": 0}).json()
        assert (own["text"], own["alternatives"]) == ("a", [])
