import base64
import gc
import json
import math
import threading
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.api.v2 import infer
from service.api.v2.messages import LENGTH_HEADER, encode, parse
from service.ocr.recognizer import Recognizer
from service.runtime.batcher import Batcher, OverloadedError
from service.settings import Settings
from tests import stripes

INFER = "/v2/models/stripes/infer"
PICTURE = stripes.picture("ab")


def create_client(model: Path, **settings: Any) -> TestClient:
    app = create_app(Settings(model_path=model, **settings))
    return TestClient(app, raise_server_exceptions=False)


def pictures(*given: bytes, name: str = "picture", **members: Any) -> dict[str, Any]:
    data = [base64.b64encode(picture).decode() for picture in given]
    tensor = {"name": name, "datatype": "BYTES", "shape": [len(given)], "data": data}
    return {"inputs": [tensor], **members}


def images(count: int, value: float = 0) -> dict[str, Any]:
    shape = [count, stripes.WIDTH, stripes.HEIGHT, 1]
    data = [value] * math.prod(shape)
    return {"inputs": [{"name": "image", "datatype": "FP32", "shape": shape, "data": data}]}


def assert_refused(response: httpx2.Response, status: int, word: str) -> None:
    """Checks for an error of the protocol: an object with the one member `error`."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    document = response.json()
    assert set(document) == {"error"}
    assert word in document["error"]


@pytest.fixture
def client(stripe_model: Path):  # type: ignore[no-untyped-def]
    """A client of the running application."""
    with create_client(stripe_model) as client:
        yield client


def test_texts_have_the_order_of_the_pictures(client: TestClient) -> None:
    """The request has more pictures than are read at once."""
    texts = [f"{first} {second}" for first in "abcd" for second in "abcd"]
    answer = client.post(INFER, json=pictures(*map(stripes.picture, texts))).json()
    text, confidence = answer["outputs"]
    assert text["data"] == [text.replace(" ", "") for text in texts]
    assert (text["datatype"], text["shape"]) == ("BYTES", [16])
    assert len(confidence["data"]) == 16
    assert "id" not in answer


def test_the_parts_of_request_time_are_counted(client: TestClient) -> None:
    """As on the other routes, a group of pictures that are read together counts once."""
    client.post(INFER, json=pictures(*[PICTURE] * 6))
    text = client.get("/metrics").text
    for part, count in {"receive": 1, "wait": 2, "decode": 2, "infer": 2, "respond": 1}.items():
        assert f'captcha_ocr_request_part_seconds_count{{part="{part}"}} {count}.0' in text


def test_large_tensors_are_encoded_in_a_thread(client: TestClient) -> None:
    """The event loop answers other requests meanwhile."""
    writers = []

    def written(*arguments: Any) -> Any:
        writers.append(threading.current_thread().name)
        return encode(*arguments)

    rows = np.zeros((30, stripes.WIDTH, stripes.HEIGHT, 1), np.float32)
    tensor = {"name": "image", "datatype": "FP32", "shape": list(rows.shape)}
    with patch.object(infer, "encode", written):
        sent = {"inputs": [tensor | {"data": rows.ravel().tolist()}]}
        (output,) = client.post(INFER, json=sent).json()["outputs"]
    assert output["shape"] == [30, stripes.TIME_STEPS, len(stripes.ALPHABET) + 1]
    assert all(name.startswith("batcher") for name in writers)
    assert len(writers) == 1


def test_the_query_constrains_the_texts(client: TestClient) -> None:
    """The query has the same parameters as at `/predict`, and no others."""
    answer = client.post(f"{INFER}?alphabet=cd", json=pictures(PICTURE)).json()
    assert set(answer["outputs"][0]["data"][0]) <= set("cd")
    assert_refused(client.post(f"{INFER}?no=1", json=pictures(PICTURE)), 422, "no such parameter")


@pytest.mark.parametrize("query", ["alternatives=2", "min_confidence=0.5", "matrix=true"])
def test_a_parameter_without_effect_on_the_answer_is_refused(
    client: TestClient, query: str
) -> None:
    """An answer of the protocol has no place for what these parameters give."""
    answer = client.post(f"{INFER}?length=4&{query}", json=pictures(PICTURE))
    assert_refused(answer, 422, f"{query.partition('=')[0]}: it has no effect here")


@pytest.mark.parametrize("query", ["length=4", "alphabet=ab", "pattern=a"])
def test_constraints_are_refused_for_image_tensors(client: TestClient, query: str) -> None:
    """Constraints are for texts, and an image tensor gets only probabilities."""
    rows = np.zeros((1, stripes.WIDTH, stripes.HEIGHT, 1), np.float32)
    tensor = {"name": "image", "datatype": "FP32", "shape": list(rows.shape)}
    sent = {"inputs": [tensor | {"data": rows.ravel().tolist()}]}
    said = f"{query.partition('=')[0]}: it has no effect on probabilities"
    assert_refused(client.post(f"{INFER}?{query}", json=sent), 422, said)
    assert client.post(INFER, json=sent).status_code == 200


@pytest.mark.parametrize("nested", [True, False])
def test_an_image_tensor_in_json_gets_the_probabilities(client: TestClient, nested: bool) -> None:
    """The tensor may be large."""
    columns = [[[stripes.level_of("b")]] * stripes.HEIGHT] * stripes.WIDTH
    flat = [value[0] for column in columns for value in column]
    tensor = {
        "name": "image",
        "datatype": "FP32",
        "shape": [60, stripes.WIDTH, stripes.HEIGHT, 1],
        "data": [columns] * 60 if nested else flat * 60,
    }
    assert len(json.dumps(tensor)) > 1 << 16
    (rows,) = client.post(INFER, json={"inputs": [tensor]}).json()["outputs"]
    assert rows["shape"] == [60, stripes.TIME_STEPS, len(stripes.ALPHABET) + 1]
    assert all(p > 0.99 for p in rows["data"][1 :: len(stripes.ALPHABET) + 1])
    tensor["data"] = [*flat * 60][:-1]
    assert_refused(
        client.post(INFER, json={"inputs": [tensor]}), 400, "must be numbers that fit the shape"
    )


@pytest.mark.parametrize(("count", "in_thread"), [(1, False), (60, True)])
def test_many_numbers_are_parsed_in_a_thread(
    stripe_model: Path, count: int, in_thread: bool
) -> None:
    """The event loop answers other requests meanwhile."""
    threads: list[int] = []

    def noting(*given: Any) -> Any:
        threads.append(threading.get_ident())
        return parse(*given)

    with patch.object(infer, "parse", noting), create_client(stripe_model) as client:
        client.post(INFER, json=images(count))
        client.post(INFER, json=images(1))
    first, second = threads
    assert (first != second) == in_thread


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ({"inputs": []}, "the inputs are []; send 'image'"),
        (pictures(PICTURE, name="file"), "the inputs are ['file']"),
        (pictures(PICTURE, name="image"), "image is 'BYTES'"),
        (pictures(), "has 0 pictures; send 1 to 3"),
        (pictures(*[PICTURE] * 4), "picture has 4 pictures; send 1 to 3"),
        (images(4), "has 4 pictures; send 1 to 3"),
        (images(1, 1e30), "image: from these values, the model gives a probability that is not"),
        (pictures(PICTURE, b"0" * 3000), "element 1 has over 2000 bytes"),
        (pictures(PICTURE, b"no"), "picture: element 1: "),
        (pictures(PICTURE, outputs=[{"name": "é"}]), "there is no output 'é'"),
    ],
)
def test_a_request_that_the_model_cannot_answer_is_refused(
    document: dict[str, Any], word: str, stripe_model: Path
) -> None:
    """The message says what it can answer."""
    with create_client(stripe_model, max_batch=3, max_upload_bytes=2000) as client:
        assert_refused(client.post(INFER, json=document), 400, word)


def test_a_malformed_document_is_freed_without_the_garbage_collector(client: TestClient) -> None:
    """Otherwise, 8 MB of JSON leave hundreds of MB in memory."""
    sent = json.dumps({"inputs": [{"shape": [1], "parameters": [[]] * 500}]})
    assert_refused(client.post(INFER, content=sent), 400, "inputs.0.name: Field required")
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        client.post(INFER, content=sent)
        assert len(gc.get_objects()) < before + 250
    finally:
        gc.enable()


def test_a_too_large_body_is_not_read(stripe_model: Path) -> None:
    """Its declared length is enough to refuse it."""
    with create_client(stripe_model, max_batch_bytes=100) as client:
        assert_refused(client.post(INFER, content=b"0" * 101), 413, "at most 100 bytes")
        assert_refused(client.post(INFER, content=b"[]".ljust(100)), 400, "should be an object")


def test_inference_needs_a_key(stripe_model: Path) -> None:
    """The metadata of a model need none."""
    with create_client(stripe_model, api_keys="secret") as client:
        assert_refused(client.post(INFER, json=pictures(PICTURE)), 401, "X-API-Key")
        keyed = client.post(INFER, json=pictures(PICTURE), headers={"x-api-key": "secret"})
        assert keyed.status_code == 200
        assert client.get("/v2/models/stripes").status_code == 200


def test_overload_is_an_error_of_the_protocol(client: TestClient) -> None:
    """The HTTP header `Retry-After` says when to retry."""
    with patch.object(Batcher, "admit", side_effect=OverloadedError(7)):
        response = client.post(INFER, json=pictures(PICTURE))
    assert_refused(response, 503, "later")
    assert response.headers["retry-after"] == "7"


def test_internal_errors_reveal_nothing(client: TestClient) -> None:
    """The error of the protocol contains no word of the exception."""
    with patch.object(Recognizer, "infer", side_effect=RuntimeError("secret")):
        response = client.post(INFER, json=pictures(PICTURE))
    assert_refused(response, 500, "log says why")
    assert "secret" not in response.text


def test_before_its_start_the_server_is_live_but_not_ready(stripe_model: Path) -> None:
    """Its model is not ready either."""
    client = create_client(stripe_model)
    assert client.get("/v2/health/live").json() == {"live": True}
    for path in ("/v2/health/ready", "/v2/models/stripes", "/v2/models/stripes/ready"):
        assert_refused(client.get(path), 503, "No model")
    with client:
        assert client.get("/v2/health/ready").json() == {"ready": True}
        assert client.get("/v2/models/stripes/versions/1/ready").json()["ready"]


def test_an_unknown_path_below_v2_gets_an_error_of_the_protocol(client: TestClient) -> None:
    """Other unknown paths get a problem."""
    assert_refused(client.get("/v2/nothing"), 404, "GET /v2/nothing")
    assert_refused(client.get(INFER), 405, "GET")
    long = client.get("/v2/" + "n" * 5000)
    assert_refused(long, 404, "GET /v2/nnn")
    assert len(long.text) < 500
    assert client.get("/v2nothing").headers["content-type"] == "application/problem+json"


def test_a_length_header_beyond_the_body_is_refused(client: TestClient) -> None:
    body = json.dumps(pictures(PICTURE)).encode()
    for length in (str(len(body) + 1), "x", "9" * 5000):
        answer = client.post(INFER, content=body, headers={LENGTH_HEADER: length})
        assert_refused(answer, 400, LENGTH_HEADER)
