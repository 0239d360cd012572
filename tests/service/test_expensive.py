"""Little input that would take much time or memory is refused, or kept away from the event loop."""

import json
import threading

import pytest
from fastapi.testclient import TestClient

from service.inference.messages import InferenceRequest
from service.questions import Questioner
from tests import stripes
from tests.service.test_predict import assert_problem

_FORM = {"content-type": "multipart/form-data; boundary=b"}
_PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
_END = b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (_PART + b"\r\n--bx" * 1000 + _END, "more than 1 part"),
        (_PART + b"x\r\n--b" + b" " * 1000 + _END, "64 spaces"),
    ],
    ids=["boundaries", "padding"],
)
def test_endless_boundaries(body: bytes, detail: str, client: TestClient) -> None:
    """A parser takes them byte by byte."""
    response = client.post("/predict", content=body, headers=_FORM)
    assert_problem(response, 422, "invalid-upload", detail)


def test_a_little_padding(client: TestClient) -> None:
    """Receivers have to bear with it (RFC 2046, 5.1.1)."""
    body = _PART + stripes.picture("ab") + b"\r\n--b--  \t\r\n"
    assert client.post("/predict", content=body, headers=_FORM).json()["text"] == "ab"


def test_a_list_of_nothing(client: TestClient) -> None:
    """Objects take many times the memory of the two bytes that stand for them."""
    response = client.post("/predict/batch", json={"images": [[]] * 1000})
    assert_problem(response, 422, "invalid-upload", "more members than 64 pictures")


def test_a_full_batch_of_data_urls(client: TestClient) -> None:
    """As many pictures as there may be, each with a comma of its own."""
    picture = "data:image/png;base64,AAAA"
    answers = client.post("/predict/batch", json={"images": [picture] * 64}).json()["answers"]
    assert {answer["problem"]["status"] for answer in answers} == {415}


def test_patterns_are_compiled_in_threads(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pattern takes longer than most pictures, and others are not to wait for it."""
    threads = set()
    ask = Questioner.ask

    def noted(self: Questioner, query: bytes) -> object:
        threads.add(threading.current_thread().name.partition("-")[0])
        return ask(self, query)

    monkeypatch.setattr(Questioner, "ask", noted)
    files = [("files", stripes.picture("ab"))]
    for name in ("pattern", "%70attern"):
        answer = client.post(f"/predict/batch?{name}=ab", files=files).json()["answers"][0]
        assert answer["prediction"]["text"] == "ab"
    client.post("/v2/models/stripes/infer?pattern=ab", json={})
    assert threads == {"reader"}


def test_large_tensors_are_taken_apart_in_threads(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little of a body its JSON is."""
    threads = []
    parse = InferenceRequest.parse

    def noted(*arguments: object) -> InferenceRequest:
        threads.append(threading.current_thread().name.partition("-")[0])
        return parse(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(InferenceRequest, "parse", noted)
    size = 1 << 17
    tensor = {"name": "picture", "shape": [size // 4], "datatype": "BYTES"}
    head = {"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    response = client.post("/v2/models/stripes/infer", content=text + bytes(size), headers=headers)
    assert response.status_code == 400
    assert threads == ["reader"]
