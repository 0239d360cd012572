"""Little input that would take much time or memory is refused, or kept away from the event loop."""

import json
import threading
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.api.app import create_app
from service.api.query_params import Questioner
from service.api.v2.messages import InferenceRequest
from service.observability.metrics import Metrics
from service.observability.request_timing import Timeline
from service.ocr.decoding.decoder import Decoder
from service.ocr.recognizer import Recognizer
from service.runtime.predictor import Reader
from service.settings import Settings
from tests import stripes
from tests.pngs import behind_header, chunk
from tests.service.test_predict import assert_problem
from tests.service.test_questions import BETWEEN_A_AND_B

SMALL = stripes.picture("ab")
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


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Where the steps of reading are done: by name, `loop` or `reader`."""
    places: dict[str, str] = {}

    def note(owner: type, name: str) -> None:
        method = getattr(owner, name)

        def noted(*arguments: object) -> object:
            in_thread = threading.current_thread().name.startswith("reader-")
            places[name] = "reader" if in_thread else "loop"
            return method(*arguments)

        monkeypatch.setattr(owner, name, noted)

    for owner, name in [(Recognizer, "fit"), (Recognizer, "infer"), (Decoder, "decode")]:
        note(owner, name)
    return places


def text_in(client: TestClient, path: str, picture: bytes) -> str:
    field = "files" if "batch" in path else "file"
    answer = client.post(path, files=[(field, picture)]).json()
    prediction = answer["answers"][0]["prediction"] if "answers" in answer else answer
    text: str = prediction["text"]
    return text


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize(
    ("picture", "query", "where"),
    [
        (SMALL, "", "loop"),
        (stripes.encode(stripes.draw("ab").resize((2000, 1000))), "", "reader"),
        (SMALL + bytes(100_000), "", "reader"),
        (behind_header(chunk(b"eXIf", Image.Exif().tobytes()[6:])), "", "reader"),
        (stripes.encode(stripes.draw("ab"), "BMP"), "", "reader"),
        (stripes.encode(Image.fromarray(np.uint16(257) * stripes.draw("ab"))), "", "reader"),
        (SMALL, "?alternatives=1", "reader"),
        (SMALL, "?pattern=ab", "reader"),
        (SMALL, "?matrix=true", "reader"),
    ],
    ids=["small", "large", "long", "exif", "bmp", "deep", "alternatives", "pattern", "matrix"],
)
def test_only_what_is_quick_is_done_in_the_event_loop(
    path: str,
    picture: bytes,
    query: str,
    where: str,
    client: TestClient,
    places: dict[str, str],
) -> None:
    """A small PNG is decoded there, and its text, but the model runs in threads in any case."""
    assert text_in(client, path + query, picture) == "ab"
    assert places == {"fit": where, "infer": "reader", "decode": where}


def test_what_is_decoded_waits_from_then_on(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a thread, also before it is its turn to wait for one."""
    seen: list[Timeline] = []
    monkeypatch.setattr(Metrics, "went_by", lambda self, timeline, ended: seen.append(timeline))
    client.post("/predict/batch", files=[("files", SMALL)] * 40)
    client.get("/metrics")  # for which what is to be counted is
    (timeline,) = [timeline for timeline in seen if timeline.reads]
    assert len(timeline.reads) >= 10
    for read in timeline.reads:
        assert read.decode[0] < read.decode[1] == read.wait[0] < read.wait[1] <= read.infer[0]


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_the_event_loop_decodes_nothing_while_it_refuses(
    path: str, client: TestClient, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is to be refused would wait, and with everybody those who are to be read."""
    monkeypatch.setattr(client.app.state.engine._deference, "defers", True)
    assert text_in(client, path, SMALL) == "ab"
    assert set(places.values()) == {"reader"}


def test_whatever_refuses_has_the_event_loop_defer(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what the protocol does not refuse by itself, such as requests of a page or below /v2."""
    engine = client.app.state.engine
    assert not engine._deference.defers
    monkeypatch.setattr(engine.pool, "retry_seconds", lambda: 1)
    assert client.post("/predict", files={"file": SMALL}).status_code == 503
    assert engine._deference.defers


def test_broken_pictures_alone_need_no_thread(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do they count as pictures that were read, and quickly."""

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError

    monkeypatch.setattr(client.app.state.engine.pool, "run", forbidden)
    files = [("files", SMALL[:-30])] * 5
    answers = client.post("/predict/batch", files=files).json()["answers"]
    assert [a["problem"]["type"] for a in answers] == 5 * ["/problems/undecodable-picture"]


def test_where_it_is_done_changes_nothing(client: TestClient) -> None:
    """A picture has the same answer in the event loop and in a thread."""
    for picture in (SMALL, BETWEEN_A_AND_B, SMALL[:-30], stripes.picture("")):
        here, there = (
            client.post(path, files={"file": picture})
            for path in ("/predict", "/predict?alternatives=0")
        )
        assert here.status_code == there.status_code
        assert here.json() == there.json()


def test_defaults_that_take_long_are_heeded(stripe_model: Path) -> None:
    """A service may ask for alternatives of every picture; searching for them is a thread's."""
    with (
        TestClient(create_app(Settings(model_path=stripe_model, alternatives=2))) as client,
        patch.object(Reader, "answer_each", autospec=True, side_effect=Reader.answer_each) as used,
    ):
        answer = client.post("/predict", files={"file": BETWEEN_A_AND_B}).json()
    assert len(answer["alternatives"]) == 2
    assert used.call_count == 1


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
