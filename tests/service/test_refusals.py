"""Over real sockets: what becomes of pictures that would wait too long."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.service.server import address_of, start
from tests.service.wire import HEAD, READY, picture

_ALWAYS_FULL = """
import sys
from service.runtime import batcher as pool
from service.server import main as serving

pool.Pool.retry_seconds = lambda self: 3
sys.exit(serving.main())
"""


@contextmanager
def always_full(model: Path, **settings: object) -> Iterator[str]:
    """The address of a service that refuses every picture."""
    process = start(_ALWAYS_FULL, port=0, model_path=model, **settings)
    try:
        yield address_of(process)
    finally:
        process.kill()
        process.communicate()


def connected(address: str, timeout: float) -> socket.socket:
    url = urlsplit(address)
    return socket.create_connection((url.hostname or "", url.port or 0), timeout=timeout)


def until_closed(client: socket.socket) -> bytes:
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    return received


def test_refusals_under_overload(stripe_model: Path) -> None:
    """Pictures are refused in order and in full words, bodies unread; the connection goes on."""
    with always_full(stripe_model) as address, connected(address, 20) as client:
        last = READY[:-2] + b"Connection: close\r\n\r\n"
        client.sendall(picture() + READY + picture()[:-10])
        time.sleep(0.2)
        client.sendall(picture()[-10:] + last)
        received = until_closed(client)
    heads = [part.split(b"\r\n")[0] for part in received.split(b"HTTP/1.1 ")[1:]]
    assert heads == [b"503 Service Unavailable", b"200 OK"] * 2
    assert received.lower().count(b"retry-after: 3\r\n") == 2
    assert received.count(b'"type":"/problems/overloaded"') == 2


@pytest.mark.parametrize("line", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nConnection: close\r\n"])
def test_who_asks_for_an_end_gets_it(line: bytes, stripe_model: Path) -> None:
    """A refusal that is the last on its connection says so, and the connection is closed."""
    with always_full(stripe_model) as address, connected(address, 3) as client:
        client.sendall(picture().replace(b"HTTP/1.1\r\n", line))
        received = until_closed(client)
    assert received.startswith(b"HTTP/1.1 503 ")
    assert b"connection: close" in received.lower()


def test_refusals_that_nobody_takes(stripe_model: Path) -> None:
    """A client that is refused on and on and never reads is cut off, its answers not kept."""
    request = HEAD + b"A: " + b"b" * 1000 + b"\r\nContent-Length: 0\r\n\r\n"
    sent = 0
    full = always_full(stripe_model, request_seconds=20)
    with full as address, connected(address, 1) as client, suppress(OSError):
        while sent < 60_000:
            client.sendall(request * 100)
            sent += 100
    assert sent < 60_000


def test_inference_is_refused_in_its_own_words(stripe_model: Path) -> None:
    """Under overload, clients of the Open Inference Protocol get an error of its shape."""
    with always_full(stripe_model) as address:
        answer = httpx2.post(f"{address}/v2/models/stripes/infer", json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert set(answer.json()) == {"error"}


def test_pages_see_that_they_are_refused(stripe_model: Path) -> None:
    """A browser hides an answer from a page of another origin unless it names that origin."""
    origin = "https://a.example"
    with always_full(stripe_model, cors_origins=origin) as address:
        answer = httpx2.post(f"{address}/predict", content=b"", headers={"Origin": origin})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert answer.headers["access-control-allow-origin"] == origin
