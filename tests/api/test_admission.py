"""Requests under load: which are refused, and which must not wait for others."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request

from service.api.app import create_app
from service.api.handlers import network_of
from service.ocr.decoding.decoder import Question, Reading
from service.ocr.preprocessing import FloatArray, ModelInput, Region
from service.ocr.recognizer import Recognizer
from service.runtime.batcher import Batcher, Caller, OverloadedError
from service.settings import Settings
from tests import stripes
from tests.api.test_predict import assert_problem, post
from tests.server.process import address_of, start, until

PNG = {"content-type": "image/png"}
READY = b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"

_ALWAYS_FULL = """
import sys
from service.runtime import batcher
from service.server.main import main

def refuse(self, client):
    raise batcher.OverloadedError(3)

batcher.Batcher.admit = refuse
sys.exit(main())
"""

_STUCK = """
import sys, time
from service.ocr.recognizer import Recognizer
from service.server.main import main

infer = Recognizer.infer

def stuck(self, tensors):
    if tensors.mean() < 0.01:  # a black picture
        time.sleep(600)
    return infer(self, tensors)

Recognizer.infer = stuck
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ("2001:db8:1:3:3:4:5:6", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::"),
        ("an:other", "an:other"),
        ("", ""),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(address: str, network: str) -> None:
    """A client that has one address of an IPv6 network has the other addresses, too."""
    assert network_of((address, 1)) == network
    assert network_of(None) == ""


@contextmanager
def serving_patched(code: str, model: Path, **settings: Any) -> Iterator[str]:
    """Starts a service by `code`, which replaces some of it; yields its address."""
    process = start(code, port=0, model_path=model, **settings)
    try:
        yield address_of(process)
    finally:
        process.kill()
        process.communicate()


def connected(address: str, timeout: float) -> socket.socket:
    url = urlsplit(address)
    return socket.create_connection((url.hostname or "", url.port or 0), timeout=timeout)


def picture_request() -> bytes:
    body = stripes.picture("ab")
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def receive_until_closed(client: socket.socket) -> bytes:
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    return received


def test_refusals_come_in_order_and_keep_the_connection_open(stripe_model: Path) -> None:
    """Under overload, pictures are refused before their bodies are read."""
    with serving_patched(_ALWAYS_FULL, stripe_model) as address, connected(address, 20) as client:
        last = READY[:-2] + b"Connection: close\r\n\r\n"
        client.sendall(picture_request() + READY + picture_request() + last)
        received = receive_until_closed(client)
    heads = [part.split(b"\r\n")[0] for part in received.split(b"HTTP/1.1 ")[1:]]
    assert heads == [b"503 Service Unavailable", b"200 OK"] * 2
    assert received.lower().count(b"retry-after: 3\r\n") == 2
    assert received.count(b'"type":"/problems/overloaded"') == 2


SLOW_PICTURE = stripes.encode(stripes.draw("ab").resize((1600, 800)))


@contextmanager
def decoding_held() -> Iterator[tuple[threading.Event, threading.Event]]:
    """Decoding SLOW_PICTURE sets the first event, and waits for the second one."""
    begun, release = threading.Event(), threading.Event()
    preprocess = Recognizer.preprocess

    def held(
        recognizer: Recognizer, picture: bytes, region: Region | None = None, *, slow: bool = True
    ) -> ModelInput:
        if picture == SLOW_PICTURE and slow:
            begun.set()
            assert release.wait(20)
        return preprocess(recognizer, picture, region, slow=slow)

    with patch.object(Recognizer, "preprocess", held):
        yield begun, release


def test_slow_pictures_leave_a_thread_for_other_pictures(stripe_model: Path) -> None:
    """While a slow picture is decoded and others wait, alone or in a batch, the rest is read."""
    settings = Settings(model_path=stripe_model, threads=2, queue_ms=60_000)
    with (
        ThreadPoolExecutor(4) as senders,
        decoding_held() as (begun, release),
        TestClient(create_app(settings)) as client,
    ):
        alone = [senders.submit(post, client, SLOW_PICTURE) for _ in range(3)]
        files = [("files", SLOW_PICTURE), ("files", b"junk"), ("files", stripes.picture("cd"))]
        batch = senders.submit(client.post, "/predict/batch", files=files)
        assert begun.wait(20)
        for _ in range(10):
            assert post(client, stripes.picture("dc")).json()["text"] == "dc"
        release.set()
        answers = [answer.result().json() for answer in alone]
        first, second, third = batch.result().json()["answers"]
    assert [answer["text"] for answer in answers] == [first["prediction"]["text"]] * 3
    assert second["problem"]["type"] == "/problems/unsupported-format"
    assert third["prediction"]["text"] == "cd"


@pytest.mark.parametrize(
    "known", [{}, {"length": "2"}, {"pattern": "..", "alphabet": "cd"}], ids=str
)
def test_other_parameters_do_not_wait_for_slow_pictures(
    known: dict[str, str], stripe_model: Path
) -> None:
    """While a slow picture is decoded, only constraints that are new to the service wait."""
    settings = Settings(model_path=stripe_model, threads=2, queue_ms=500)
    picture = stripes.picture("dc")
    with (
        ThreadPoolExecutor(1) as sender,
        decoding_held() as (begun, release),
        TestClient(create_app(settings)) as client,
    ):
        assert post(client, picture, params=known).is_success
        slow = sender.submit(post, client, SLOW_PICTURE)
        try:
            assert begun.wait(20)
            for top in range(5):
                other = {"region": f"0,{top},40,3", "min_confidence": f"0.{top}"}
                answer = post(client, picture, params=known | other)
                assert answer.json().get("text") == "dc", answer.text
            wrong = post(client, picture, params=known | {"region": "1"})
            assert_problem(wrong, 422, "invalid-parameter", "region: ")
        finally:
            release.set()
            assert slow.result(timeout=30).is_success


@pytest.mark.parametrize(
    ("length", "text"),
    [
        pytest.param("1-999", "ab", id="constraint of very many states"),
        pytest.param("1", "b", id="most probable text does not fit"),
    ],
)
def test_slow_searches_leave_a_thread_for_other_pictures(
    length: str, text: str, stripe_model: Path
) -> None:
    """While one search runs and others wait, pictures without constraints are read."""
    begun, release = threading.Event(), threading.Event()
    decode = Recognizer.decode

    def held(
        recognizer: Recognizer,
        picture: ModelInput,
        probabilities: FloatArray,
        question: Question,
        *,
        slow: bool = True,
    ) -> Reading:
        if question.constraint is not None and slow:
            begun.set()
            assert release.wait(20)
        return decode(recognizer, picture, probabilities, question, slow=slow)

    settings = Settings(model_path=stripe_model, threads=2, queue_ms=60_000)
    with (
        ThreadPoolExecutor(4) as senders,
        patch.object(Recognizer, "decode", held),
        TestClient(create_app(settings)) as client,
    ):
        slow = [
            senders.submit(post, client, stripes.picture("ab"), params={"length": length})
            for _ in range(3)
        ]
        assert begun.wait(20)
        for _ in range(10):
            assert post(client, stripes.picture("dc")).json()["text"] == "dc"
        release.set()
        assert [answer.result().json()["text"] for answer in slow] == [text] * 3


def test_a_refusal_has_cors_headers(stripe_model: Path) -> None:
    """A browser hides answers from pages of another origin unless the answer names this origin."""
    settings = Settings(model_path=stripe_model, cors_origins="https://a.example")
    with (
        patch.object(Batcher, "admit", side_effect=OverloadedError(3)),
        TestClient(create_app(settings)) as client,
    ):
        answer = client.post("/predict", content=b"", headers={"Origin": "https://a.example"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert answer.headers["access-control-allow-origin"] == "https://a.example"


def test_routes_and_keys_are_checked_before_the_load(stripe_model: Path) -> None:
    """Under overload, an unknown path is still 404, another method 405, and a missing key 401."""
    settings = Settings(model_path=stripe_model, api_keys="secret")
    with (
        patch.object(Batcher, "admit", side_effect=OverloadedError(3)),
        TestClient(create_app(settings)) as client,
    ):
        assert client.post("/no-such-page").status_code == 404
        assert client.post("/v2/models/other/infer").status_code == 404
        assert client.get("/predict").status_code == 405
        assert_problem(post(client, b""), 401, "unauthorized", "X-API-Key")
        answer = post(client, b"", headers={"X-API-Key": "secret"})
        assert_problem(answer, 503, "overloaded", "later")


def test_no_answer_waits_for_stuck_threads(stripe_model: Path) -> None:
    """While all threads are stuck, requests are refused, and the service is ready."""
    black = stripes.picture("a" * stripes.TIME_STEPS)
    with (
        ThreadPoolExecutor(20) as pool,
        serving_patched(_STUCK, stripe_model, threads=2, queue_ms=100) as address,
        httpx2.Client(base_url=address, timeout=30) as client,
    ):
        for _ in range(2):
            pool.submit(client.post, "/predict", content=black, headers=PNG)
        until(lambda: client.get("/info").json()["in_flight"] == 2, "all threads are stuck")
        sound = stripes.picture("ab")

        def ask(kind: int) -> int:
            if kind % 3 == 0:
                answer = client.post("/predict", content=sound, headers=PNG)
            elif kind % 3 == 1:
                answer = client.post("/predict/batch", files=[("files", sound)] * 20)
            else:
                answer = client.post(f"/predict?pattern={'a' * (1 + kind)}", content=sound)
            return answer.status_code

        assert set(pool.map(ask, range(12))) == {503}
        assert client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("threads", [1, 2])
def test_a_lone_client_is_never_refused(threads: int, stripe_model: Path) -> None:
    """Its pictures may take any time, one after the other and in batches larger than the queue."""
    infer = Recognizer.infer

    def slow(self: Recognizer, tensors: object) -> object:
        time.sleep(0.02)
        return infer(self, tensors)  # type: ignore[arg-type]

    settings = Settings(model_path=stripe_model, threads=threads, queue_ms=1, queue_requests=0)
    with patch.object(Recognizer, "infer", slow), TestClient(create_app(settings)) as client:
        for _ in range(5):
            assert post(client, stripes.picture("ab")).status_code == 200
        batch = [("files", stripes.picture("ab"))] * 30
        answers = client.post("/predict/batch", files=batch).json()["answers"]
        assert [answer["problem"] for answer in answers] == [None] * 30


def test_the_picture_of_a_disconnected_client_is_not_read(stripe_model: Path) -> None:
    """A picture whose client disconnects while it waits costs the model nothing."""
    release, seen = threading.Event(), []
    release.set()  # the check of the model at the start need not wait
    infer = Recognizer.infer

    def held(self: Recognizer, tensors: object) -> object:
        seen.append(len(tensors))  # type: ignore[arg-type]
        release.wait(20)
        return infer(self, tensors)  # type: ignore[arg-type]

    def caller_of(request: Request) -> Caller:
        return Caller(is_gone=lambda: "gone" in request.headers)

    settings = Settings(model_path=stripe_model, threads=1, queue_ms=60_000)
    with (
        patch.object(Recognizer, "infer", held),
        patch("service.api.handlers.caller_of", caller_of),
        TestClient(create_app(settings), raise_server_exceptions=False) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        seen.clear()
        release.clear()
        first = pool.submit(post, client, stripes.picture("ab"))
        until(lambda: bool(seen), "the model reads the first picture")
        second = pool.submit(post, client, stripes.picture("ab"), headers={"gone": "yes"})
        until(lambda: client.get("/info").json()["in_flight"] == 2, "the second picture waits")
        release.set()
        assert first.result().status_code == 200
        assert second.result().status_code == 422
    assert seen == [1]
