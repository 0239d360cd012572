import asyncio
import base64
import json
import tracemalloc
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from starlette.requests import Request
from starlette.types import Message

from service.api.app import create_app
from service.api.schemas import Batch, Prediction
from service.api.uploads import LOOP_BYTES, read_body, read_picture, read_pictures
from service.api.v2.messages import LENGTH_HEADER
from service.settings import Settings
from tests import stripes
from tests.api.test_predict import assert_problem

T = TypeVar("T")

PNG = {"content-type": "image/png"}
MAX = 1 << 20
CHUNK = b"\x89P"


def text_of(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg; q=1", "application/octet-stream"])
def test_a_picture_can_be_the_whole_body(kind: str, client: TestClient) -> None:
    """The content type may be that of any picture."""
    response = client.post(
        "/predict", content=stripes.picture("ab"), headers={"content-type": kind}
    )
    assert response.json()["text"] == "ab"


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_json_may_contain_a_picture_in_base64(prefix: str, client: TestClient) -> None:
    """It may also be a data URL."""
    response = client.post("/predict", json={"image": prefix + text_of(stripes.picture("ab"))})
    assert response.json()["text"] == "ab"


@pytest.mark.parametrize(
    ("read", "name", "size", "in_thread"),
    [
        (partial(read_picture, max_bytes=MAX), "image", 100, False),
        (partial(read_picture, max_bytes=MAX), "image", LOOP_BYTES, True),
        (partial(read_pictures, max_pictures=1, max_bytes=MAX, max_picture_bytes=MAX),
         "images", 100, True),
    ],
    ids=["small", "large", "batch"],
)  # fmt: skip
def test_large_bodies_are_parsed_in_a_thread(
    read: Callable[..., Coroutine[Any, Any, Any]], name: str, size: int, in_thread: bool
) -> None:
    """The event loop answers other requests meanwhile."""
    text = text_of(bytes(size))
    body = json.dumps({name: text if name == "image" else [text]}).encode()
    threads: list[bool] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def run(work: Callable[[], T], /) -> T:
        threads.append(True)
        return work()

    headers = [(b"content-type", b"application/json")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    taken = asyncio.run(read(request, run=run))
    assert taken == (bytes(size) if name == "image" else [bytes(size)])
    assert threads == [True] * in_thread


def as_mime(text: str) -> str:
    """The text with line breaks as in RFC 2045."""
    return "\r\n".join(text[start : start + 76] for start in range(0, len(text), 76)) + "\r\n"


@pytest.mark.parametrize(
    "written",
    [as_mime, lambda text: text + "\n", lambda text: text.rstrip("="),
     lambda text: text.replace("+", "-").replace("/", "_"),
     lambda text: as_mime(text.replace("+", "-").replace("/", "_").rstrip("="))],
    ids=["line breaks", "final newline", "no padding", "url-safe", "all of these"],
)  # fmt: skip
def test_every_variant_of_base64_is_read(written: Callable[[str], str], client: TestClient) -> None:
    """It is read in a picture, a batch, a data URL, and the Open Inference Protocol."""
    picture = stripes.picture("ab") + bytes(range(256))
    picture += bytes(1 + -len(picture) % 3)
    standard = text_of(picture)
    assert {"+", "/", "="} < {*standard}
    text = written(standard)
    assert client.post("/predict", json={"image": text}).json()["text"] == "ab"
    url = f"data:image/png;base64,{text}"
    answers = client.post("/predict/batch", json={"images": [text, url]}).json()["answers"]
    assert [answer["prediction"]["text"] for answer in answers] == ["ab", "ab"]
    tensor = {"name": "picture", "datatype": "BYTES", "shape": [1], "data": [text]}
    answer = client.post("/v2/models/stripes/infer", json={"inputs": [tensor]})
    assert answer.json()["outputs"][0]["data"] == ["ab"]


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_encoded_bodies_are_refused(path: str, client: TestClient) -> None:
    """The problem names the encoding. The encoding `identity` is read."""
    field = "file" if path == "/predict" else "files"
    files = {field: stripes.picture("ab")}
    assert client.post(path, files=files, headers={"content-encoding": "identity"}).is_success
    response = client.post(path, files=files, headers={"content-encoding": "gzip"})
    assert_problem(response, 415, "encoded-upload", "content encoding gzip")
    assert response.headers["accept-encoding"] == "identity"


def test_form_body_and_base64_get_the_same_answer(client: TestClient) -> None:
    """The answer is as documented."""
    picture = stripes.picture("ab d")
    answers = [
        client.post("/predict", files={"file": picture}),
        client.post("/predict", content=picture, headers=PNG),
        client.post("/predict", json={"image": text_of(picture)}),
    ]
    assert len({answer.content for answer in answers}) == 1
    Prediction.model_validate_json(answers[0].content, strict=False, extra="forbid")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "the one member 'image'"),
        (b'{"picture": "aa"}', "the one member 'image'"),
        (b'{"image": "aa", "more": 1}', "the one member 'image'"),
        (b'{"image": 1}', "not a string"),
        (b'{"image": "\xc3\xa4"}', "not base64"),
        (b'{"image": "a"}', "not base64"),
        (b'{"image": "aa=a"}', "not base64"),
        (b'{"image": "aa\\u00a0a"}', "not base64"),
    ],
)
def test_malformed_json_is_refused(body: bytes, detail: str, client: TestClient) -> None:
    """The problem says what is wrong."""
    response = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert_problem(response, 422, "invalid-upload", detail)


@pytest.mark.parametrize("way", ["raw", "base64"])
def test_a_picture_of_exactly_the_largest_size_is_read(
    way: str, client: TestClient, settings: Settings
) -> None:
    """One byte more is refused."""

    def post(picture: bytes):  # type: ignore[no-untyped-def]
        if way == "raw":
            return client.post("/predict", content=picture, headers=PNG)
        return client.post("/predict", json={"image": text_of(picture)})

    padded = stripes.picture("ab").ljust(settings.max_upload_bytes, b"\0")
    assert post(padded).json()["text"] == "ab"
    assert_problem(post(padded + b"\0"), 413, "upload-too-large", "1048576 bytes")


def batch_of(client: TestClient, *pictures: bytes):  # type: ignore[no-untyped-def]
    return client.post("/predict/batch", files=[("files", picture) for picture in pictures])


def test_a_batch_is_answered_in_order(client: TestClient) -> None:
    """Each picture gets the same answer as alone; a broken picture gets a problem."""
    texts = ["a", "ab", "", "dcba", "b", "c", "d", "ba", "ca", "da", "bcd"]
    pictures = [stripes.picture(text) for text in texts]
    pictures.insert(3, b"no picture")
    response = batch_of(client, *pictures)
    Batch.model_validate_json(response.content)
    answers = response.json()["answers"]
    broken = answers.pop(3)
    assert [answer["prediction"]["text"] for answer in answers] == texts
    assert broken["prediction"] is None
    assert broken["problem"]["type"] == "/problems/unsupported-format"
    alone = client.post("/predict", content=pictures[1], headers=PNG).json()
    assert answers[1] == {"prediction": alone, "problem": None}


def test_a_batch_may_be_sent_in_base64(client: TestClient) -> None:
    """A malformed picture does not affect the others."""
    response = client.post(
        "/predict/batch", json={"images": [text_of(stripes.picture("ab")), "?", 1]}
    )
    first, second, third = response.json()["answers"]
    assert first["prediction"]["text"] == "ab"
    assert "not base64" in second["problem"]["detail"]
    assert "not a string" in third["problem"]["detail"]


def test_parameters_apply_to_every_picture_of_a_batch(client: TestClient) -> None:
    response = client.post(
        "/predict/batch?length=1&alternatives=1",
        files=[("files", stripes.picture("ab")), ("files", stripes.picture("b"))],
    )
    answers = [answer["prediction"] for answer in response.json()["answers"]]
    assert [len(answer["text"]) for answer in answers] == [1, 1]
    assert all(answer["alternatives"] for answer in answers)


@pytest.mark.parametrize(
    ("request_", "status", "detail"),
    [
        ({"json": {"images": []}}, 422, "empty"),
        ({"json": {"images": "aa"}}, 422, "not a list"),
        ({"json": {"images": ["aa"] * 65}}, 422, "at most 64"),
        ({"files": [("files", b"x")] * 65}, 422, "more than 64 parts"),
        ({"files": [("file", b"x")]}, 422, "fields 'files'"),
        ({"content": b"x", "headers": PNG}, 415, "the pictures as files"),
        ({"json": {"images": ["aaaa" * (3 << 20)]}}, 413, "8388608 bytes"),
        ({"json": {"images": ["aaaa"]}, "params": {"length": "x"}}, 422, "length"),
    ],
)
def test_an_invalid_batch_is_refused(
    request_: dict[str, object], status: int, detail: str, client: TestClient
) -> None:
    """The problem says what is wrong with the whole batch."""
    response = client.post("/predict/batch", **request_)  # type: ignore[arg-type]
    assert response.status_code == status, response.text
    assert detail in response.json()["detail"]


def test_a_too_large_picture_in_a_batch_is_refused(stripe_model: Path) -> None:
    """The limit is that of a single picture. The other pictures are read."""
    settings = Settings(model_path=stripe_model, max_upload_bytes=1000)
    with TestClient(create_app(settings)) as client:
        large, small = (stripes.picture("ab").ljust(n, b"\0") for n in (1001, 1000))
        first, second = batch_of(client, large, small).json()["answers"]
    assert "more than 1000 bytes. Shrink" in first["problem"]["detail"]
    assert second["prediction"]["text"] == "ab"


def request_in_tiny_chunks(chunks: int) -> Request:
    """A request whose body comes in `chunks` chunks of two bytes."""
    left = chunks

    async def receive() -> Message:
        nonlocal left
        left -= 1
        # A new object each time, as a server makes them.
        return {"type": "http.request", "body": bytes(bytearray(CHUNK)), "more_body": left > 0}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def test_a_body_in_tiny_chunks_takes_little_more_memory_than_its_size() -> None:
    """If each chunk of two bytes were kept, they would take twenty times as much memory."""
    chunks = 100_000
    request = request_in_tiny_chunks(chunks)
    tracemalloc.start()
    try:
        body = asyncio.run(read_body(request, max_bytes=1 << 20))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert body == CHUNK * chunks
    assert peak < 4 * len(body)


def test_single_pictures_and_batches_have_the_same_parameters(client: TestClient) -> None:
    """Both routes document them."""
    paths = client.get("/openapi.json").json()["paths"]
    single, batch = (paths[path]["post"]["parameters"] for path in ("/predict", "/predict/batch"))
    assert json.dumps(single) == json.dumps(batch)


def test_only_origins_in_the_settings_are_allowed(stripe_model: Path) -> None:
    for origins, allowed in (("", None), ("https://a.example", "https://a.example")):
        settings = Settings(model_path=stripe_model, cors_origins=origins)
        with TestClient(create_app(settings)) as client:
            headers = {"Origin": "https://a.example", **PNG}
            response = client.post("/predict", content=stripes.picture("a"), headers=headers)
            assert response.headers.get("access-control-allow-origin") == allowed
            exposed = response.headers.get("access-control-expose-headers")
            assert exposed == (
                allowed and "X-Request-ID, Inference-Header-Content-Length, Retry-After"
            )


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("https://a.example/", "like https://a.example"),
        ("https://b.example, https://a.example:8443/page", "like https://a.example:8443"),
        ("HTTPS://A.example", "like https://a.example"),
        ("a.example", "like https://example.com"),
        ("null", "like https://example.com"),
    ],
)
def test_settings_with_an_invalid_origin_are_refused(given: str, right: str) -> None:
    """No browser sends such an origin, so no page would be allowed."""
    with pytest.raises(ValidationError, match=right):
        Settings(cors_origins=given)


@pytest.mark.parametrize("given", ["*", "http://localhost:3000,https://a.example", "http://[::1]"])
def test_settings_with_valid_origins_are_accepted(given: str) -> None:
    assert Settings(cors_origins=given).cors_origins == given


def test_allowed_origins_may_send_every_header_of_the_api(stripe_model: Path) -> None:
    """A browser asks before it sends pictures, JSON or a key for a page."""
    settings = Settings(model_path=stripe_model, cors_origins="https://a.example")
    with TestClient(create_app(settings)) as client:
        for path in ("/predict", "/predict/batch", "/v2/models/captcha/infer"):
            for header in (
                "content-type", "x-api-key", "authorization", "x-request-id", LENGTH_HEADER,
            ):  # fmt: skip
                asked = {
                    "Origin": "https://a.example",
                    "Access-Control-Request-Method": "POST",
                    "Access-Control-Request-Headers": header,
                }
                response = client.options(path, headers=asked)
                assert response.status_code == 200, response.text
                assert "POST" in response.headers["access-control-allow-methods"]
                assert header in response.headers["access-control-allow-headers"].lower()
