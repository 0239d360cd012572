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
    """A picture of one stripe for each gray level, 0 to 1."""
    row = np.repeat(np.array(levels) * 255, 4).round().astype(np.uint8)
    padded = np.pad(row, (0, stripes.WIDTH - len(row)), constant_values=255)
    return stripes.encode(Image.fromarray(np.tile(padded, (stripes.HEIGHT, 1))))


BETWEEN_A_AND_B = gray(32 / 255)
"""A stripe a little nearer to "b" (0.25) than to "a" (0)."""


def test_alternatives_are_returned_on_request(client: TestClient) -> None:
    """The second most probable text has its own confidence."""
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
def test_the_text_satisfies_all_constraints(
    parameters: dict[str, str], text: str, client: TestClient
) -> None:
    """The answer is the most probable of these texts."""
    answer = post(client, BETWEEN_A_AND_B, params=parameters).json()
    assert re.match(text, answer["text"]), answer
    assert len(answer["characters"]) == len(answer["text"])
    assert answer["reason"] is None


def test_only_the_region_is_read(client: TestClient) -> None:
    """Spans are in pixels of the whole picture."""
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
def test_an_invalid_region_is_refused(region: str, said: str, client: TestClient) -> None:
    """The problem says what is valid."""
    response = post(client, stripes.picture("ab"), params={"region": region})
    assert_problem(response, 422, "invalid-parameter", "region: ")
    assert said in response.json()["detail"]


def test_constraints_that_no_text_can_satisfy_give_an_empty_text(client: TestClient) -> None:
    """The answer is 200, with confidence 0 and a reason."""
    response = post(client, stripes.picture("ab"), params={"length": "11"})
    answer = response.json()
    assert response.status_code == 200
    assert (answer["text"], answer["confidence"], answer["accepted"]) == ("", 0, False)
    assert "constraints" in answer["reason"]


def test_a_text_below_min_confidence_is_not_accepted(client: TestClient) -> None:
    """The answer still has the text."""
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
def test_an_invalid_parameter_is_refused(
    parameters: dict[str, str], name: str, allowed: str, client: TestClient
) -> None:
    """The problem names the parameter, the given value and what is allowed."""
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
def test_problems_shorten_long_parameters(parameters: dict[str, str], client: TestClient) -> None:
    """The problem repeats enough of the value for a person to recognize it."""
    response = post(client, stripes.picture("ab"), params=parameters)
    name = next(iter(parameters))
    assert_problem(response, 422, "invalid-parameter", name)
    assert parameters[name][:20] in response.json()["detail"]
    assert len(response.json()["detail"]) < 500


def test_a_parameter_given_twice_is_refused(client: TestClient) -> None:
    """The service does not guess which value is meant."""
    response = post(client, stripes.picture("ab"), params={"length": ["5", "4"]})
    assert_problem(response, 422, "invalid-parameter", "length: it was given 2 times; give it once")


def test_an_unknown_parameter_is_refused(client: TestClient) -> None:
    """The problem names it, and the page that lists the parameters. It shortens the value."""
    response = post(client, stripes.picture("ab"), params={"colour": "red" * 1000})
    assert_problem(response, 422, "invalid-parameter", "colour: there is no such parameter; /docs")
    assert len(response.text) < 500


def test_a_cached_refusal_equals_the_first_refusal(client: TestClient) -> None:
    answers = [
        post(client, stripes.picture("ab"), params={"pattern": "a(?=b)"}).json() for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert answers[0]["status"] == 422


def test_repeated_refusals_keep_no_stack_frames() -> None:
    """The traceback of the error does not grow with each request."""
    questions = Questions(stripes.ALPHABET, 0, Defaults())
    frames = []
    for _ in range(5):
        with pytest.raises(InvalidParameterError) as refused:
            questions.ask(b"length=0")
        frames.append(len(refused.traceback))
    assert len(set(frames)) == 1


def test_a_cached_refusal_keeps_little_memory() -> None:
    """What was computed until a pattern proved too costly is freed."""
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


def test_a_constraint_in_use_stays_cached() -> None:
    """Neither other constraints nor other parameters displace it."""
    questions = Questions(stripes.ALPHABET, 0, Defaults())
    constraint = questions.ask(b"length=5&pattern=a*")[0].constraint
    for longest in range(1, 200):
        questions.ask(f"length=1-{longest}".encode())
        query = f"region={longest},0,9,9&pattern=a%2A&length=5&min_confidence={longest / 1000}"
        asked = questions.ask_cached(query.encode())
        assert asked is not None
        assert asked[0].constraint is constraint
    assert questions.ask_cached(b"length=1-2") is None


def test_a_raw_character_beyond_ascii_gets_a_hint() -> None:
    """An address has such characters percent-encoded (RFC 3986)."""
    questions = Questions("é", 0, Defaults())
    with pytest.raises(InvalidParameterError, match="percent-encode"):
        questions.ask("alphabet=é".encode())
    assert questions.ask(b"alphabet=%C3%A9")[0].constraint is not None


def test_setting_and_parameter_have_one_definition() -> None:
    """Each parameter with a default has a setting of the same name, type and description."""
    for name, field in Defaults.model_fields.items():
        assert Settings.model_fields[name].description == field.description
        assert QueryParams.model_fields[name].annotation == field.annotation


@pytest.mark.parametrize(
    ("setting", "query", "accepted"),
    [(None, {}, False), (0.2, {}, True), (None, {"min_confidence": 0.2}, True)],
)
def test_the_threshold_of_the_model_is_the_default(
    setting: float | None,
    query: dict[str, float],
    accepted: bool,
    stripe_model: Path,
) -> None:
    """A setting replaces it, and a parameter replaces the setting."""
    settings = Settings(model_path=stripe_model, min_confidence=setting)
    recognizer = Recognizer.load(stripe_model)
    recognizer.metadata = replace(recognizer.metadata, min_confidence=0.99)
    loading = patch.object(Recognizer, "load", return_value=recognizer)
    with loading, TestClient(create_app(settings)) as client:
        assert client.get("/model").json()["min_confidence"] == 0.99
        answer = post(client, BETWEEN_A_AND_B, params=query).json()
    assert answer["accepted"] is accepted


def test_a_text_is_accepted_at_exactly_its_shown_confidence(client: TestClient) -> None:
    """The confidence in an answer may be used as the least confidence of the next request."""
    shown = post(client, BETWEEN_A_AND_B).json()["confidence"]
    for threshold, accepted in ((shown, True), (shown + 1e-6, False)):
        parameters = {"min_confidence": f"{threshold:.6f}"}
        assert post(client, BETWEEN_A_AND_B, params=parameters).json()["accepted"] is accepted


def test_settings_apply_where_a_request_leaves_a_parameter_out(stripe_model: Path) -> None:
    settings = Settings(model_path=stripe_model, alphabet="abc", alternatives=1)
    with TestClient(create_app(settings)) as client:
        answer = post(client, BETWEEN_A_AND_B).json()
        assert (answer["text"], len(answer["alternatives"])) == ("b", 1)
        own = post(client, BETWEEN_A_AND_B, params={"alphabet": "a", "alternatives": 0}).json()
        assert (own["text"], own["alternatives"]) == ("a", [])
