"""Over real sockets: what a client may do to a connection."""

import asyncio
import gc
import json
import socket
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import urlsplit

import httpx2
import pytest
import uvicorn
from uvicorn.server import ServerState

from service.protocol import BoundedProtocol, Bounds
from tests import stripes
from tests.service.server import address_of, serving, start

SECONDS = 1.0
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
READY = b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Where a service with short deadlines listens."""
    model = stripes.write_model(tmp_path_factory.mktemp("model") / "stripes.onnx")
    with serving(
        model_path=model, request_seconds=SECONDS, max_header_bytes=2048, api_keys="secret"
    ) as url:
        yield urlsplit(url).hostname or "", urlsplit(url).port or 0


def picture(key: bytes = b"X-API-Key: secret\r\n") -> bytes:
    body = stripes.picture("ab")
    return HEAD + key + b"Content-Length: %d\r\n\r\n" % len(body) + body


def answers(connection: socket.socket) -> list[tuple[int, bytes]]:
    """Statuses and bodies until the server closes."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append((int(head.split()[1]), rest[:length]))
        received = rest[length:]
    return found


def connection() -> BoundedProtocol:
    """A connection without a socket, to an application that has no answers."""

    async def application(scope: object, receive: object, send: object) -> None:
        """Answers nothing."""

    config = uvicorn.Config(application, lifespan="off")
    config.load()
    protocol = BoundedProtocol(config, ServerState(), {}, bounds=Bounds(9, 2048))
    protocol.connection_made(Mock())
    return protocol


def talk(address: tuple[str, int], *pieces: bytes, pause: float = 0.0) -> list[tuple[int, bytes]]:
    """Sends the pieces and gives all answers until the server closes, which it must."""
    with socket.create_connection(address, timeout=20) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:
                break
            time.sleep(pause)
        try:
            return answers(connection)
        except ConnectionResetError:
            return []


def test_silence_is_not_waited_for(address: tuple[str, int]) -> None:
    """A connection that says nothing is closed."""
    assert talk(address) == []


@pytest.mark.parametrize(
    "begun",
    [b"POST /predi", HEAD, HEAD + b"X-API-Key: secret\r\nContent-Length: 100\r\n\r\nabc"],
    ids=["line", "headers", "body"],
)
def test_half_a_request_is_not_waited_for(begun: bytes, address: tuple[str, int]) -> None:
    """Whatever part of a request is missing, the client is told that it came too late."""
    ((status, body),) = talk(address, begun)
    assert status == 408
    assert json.loads(body)["type"] == "/problems/request-timeout"


def test_trickling_changes_nothing(address: tuple[str, int]) -> None:
    """A byte now and then does not buy more time."""
    started = time.monotonic()
    begun = HEAD + b"X-API-Key: secret\r\nContent-Length: 1000\r\n\r\n"
    ((status, _),) = talk(address, begun, *[b"x"] * 40, pause=SECONDS / 5)
    assert status == 408
    assert time.monotonic() - started > SECONDS


def test_a_byte_after_a_refusal_changes_nothing(address: tuple[str, int]) -> None:
    """After an early refusal the rest of the body cannot hold the connection open."""
    begun = HEAD + b"X-API-Key: secret\r\nContent-Length: 99999999\r\n\r\n"
    received = talk(address, begun, *[b"x"] * 5, pause=SECONDS / 5)
    assert [status for status, _ in received] in ([413], [])


def test_who_sends_too_much_hears_of_it(address: tuple[str, int]) -> None:
    """The refusal reaches a client that first sends all it has, in chunks."""
    begun = HEAD + b"X-API-Key: secret\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"10000\r\n" + bytes(65536) + b"\r\n"
    for _ in range(5):
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(begun + 48 * chunks + b"0\r\n\r\n")
            ((status, _),) = answers(connection)
        assert status == 413


def test_too_much_is_not_listened_to_for_ever(address: tuple[str, int]) -> None:
    """A client that sends on and on after its refusal is cut off."""
    begun = HEAD + b"X-API-Key: secret\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"10000\r\n" + bytes(65536) + b"\r\n"
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(begun)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            deque(map(connection.sendall, repeat(chunks, 10_000)), maxlen=0)


def test_keys_are_checked_before_the_body(address: tuple[str, int]) -> None:
    """Who has no key is told so without having sent a byte of the body."""
    ((status, _),) = talk(address, HEAD + b"Content-Length: 100\r\n\r\n")
    assert status == 401


@pytest.mark.parametrize(
    "headers", [b"A: b\r\n" * 2000, b"A: " + b"b" * 5000 + b"\r\n", b"A: b\r\n" * 100_000]
)
@pytest.mark.parametrize("end", [b"\r\n", b""], ids=["complete", "endless"])
def test_headers_are_bounded(headers: bytes, end: bytes, address: tuple[str, int]) -> None:
    """Too many or too long headers are refused, as soon as that is seen."""
    received = talk(address, b"GET /health/ready HTTP/1.1\r\nHost: x\r\n" + headers + end)
    assert [status for status, _ in received] in ([431], [])
    assert received or len(headers) > 65536  # who sends on may miss the answer


@pytest.mark.parametrize("line", [b"A:\r\n", b"A: bcdef\r\n"])
def test_headers_beyond_the_bound_are_not_kept(line: bytes) -> None:
    """However many arrive at once, there is never more of them in memory than the limit."""

    async def kept() -> int:
        protocol = connection()
        protocol.data_received(b"GET / HTTP/1.1\r\n" + line * 25_000)
        protocol.connection_lost(None)
        return sum(len(name) + len(value) + 4 for name, value in protocol.headers)

    assert 1000 < asyncio.run(kept()) <= 2048


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        READY[:-2],
        b"A" * 5000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1000,
        READY * 5,
        HEAD + b"\r\n",
    ],
)
def test_a_lost_connection_leaves_nothing(sent: bytes) -> None:
    """Its memory is free at once, and not when the garbage collector comes round."""

    async def left() -> object:
        protocol = connection()
        protocol.data_received(sent)
        protocol.connection_lost(ConnectionResetError())
        await asyncio.sleep(0.01)  # the request ends, too
        lost = weakref.ref(protocol)
        del protocol
        return lost()

    gc.disable()
    try:
        assert asyncio.run(left()) is None
    finally:
        gc.enable()


def test_headers_within_the_bound(address: tuple[str, int]) -> None:
    """Just below the bound they are read."""
    request = READY[:-2] + b"A: " + b"b" * 1900 + b"\r\nConnection: close\r\n\r\n"
    assert [status for status, _ in talk(address, request)] == [200]


def test_requests_before_it_do_not_count_as_headers(address: tuple[str, int]) -> None:
    """Requests that arrive together with the beginning of another one are not its headers."""
    last = READY[:-2] + b"Connection: close\r\n\r\n"
    together = picture() * 30 + last[:20]
    assert len(together) > 2 * 2048
    received = talk(address, together, last[20:], pause=SECONDS / 4)
    assert [status for status, _ in received] == [200] * 31


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: -1",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: abc",
        b"Content-Length: 99999999999999999999999",
    ],
)
def test_contradictory_lengths(lines: bytes, address: tuple[str, int]) -> None:
    """A request whose end is in doubt is refused and the connection closed (RFC 9112, 6.3)."""
    received = talk(address, HEAD + b"X-API-Key: secret\r\n" + lines + b"\r\n\r\n0\r\n\r\n")
    assert [status for status, _ in received] == [400]


def test_requests_that_are_fast_enough(address: tuple[str, int]) -> None:
    """One after the other, in pieces, and several at once are answered in their order."""
    with socket.create_connection(address, timeout=20) as connection:
        for piece in (picture()[:50], picture()[50:], picture() + READY + picture()):
            connection.sendall(piece)
            time.sleep(SECONDS / 10)
        time.sleep(SECONDS * 1.5)  # an idle connection is no late request
        connection.sendall(READY[:-2] + b"Connection: close\r\n\r\n")
        received = answers(connection)
    assert [status for status, _ in received] == [200] * 5
    assert [json.loads(body).get("text") for _, body in received] == ["ab", "ab", None, "ab", None]


def test_answers_that_nobody_takes(address: tuple[str, int]) -> None:
    """A client that asks on and on and never reads is cut off, its answers not kept for it."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(address, timeout=20) as connection:
        connection.settimeout(SECONDS / 4)
        sent = 0
        with suppress(OSError):
            for _ in range(2000):
                connection.sendall(request)
                sent += 1
        time.sleep(SECONDS * 3)
        connection.settimeout(20)
        received = b""
        with suppress(ConnectionResetError):
            while chunk := connection.recv(1 << 20):
                received += chunk
    # Being cut off may take with it what had been answered.
    assert received.count(b"HTTP/1.1 200") < sent


def test_requests_that_wait_behind_others_are_bounded(address: tuple[str, int]) -> None:
    """Who sends requests by the hundred without waiting for answers is cut off, not stored."""
    received = talk(address, READY * 1000)
    assert len(received) < 100


def test_security_headers(address: tuple[str, int]) -> None:
    """Every answer forbids guessing its type."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(READY)
        head = connection.recv(65536).lower()
    assert b"x-content-type-options: nosniff" in head
    assert b"server:" not in head


def test_pictures_read_afterwards(address: tuple[str, int], stripe_model: Path) -> None:
    """After all of that the service reads."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(picture())
        answer = b""
        while not answer.endswith(b"}"):  # head and body are written one after the other
            more = connection.recv(65536)
            assert more, answer
            answer += more
        assert b'"text":"ab"' in answer


_ALWAYS_FULL = """
import sys
from service import __main__, pool

def admit(self, pictures=1):
    raise pool.OverloadedError(3)

pool.Pool.admit = admit
sys.exit(__main__.main())
"""


def test_refusals_under_overload(stripe_model: Path) -> None:
    """Pictures are refused in order and in full words, bodies unread; the connection goes on."""
    process = start(_ALWAYS_FULL, port=0, model_path=stripe_model)
    try:
        url = urlsplit(address_of(process))
        with socket.create_connection((url.hostname or "", url.port or 0), timeout=20) as client:
            last = READY[:-2] + b"Connection: close\r\n\r\n"
            client.sendall(picture() + READY + picture()[:-10])
            time.sleep(0.2)
            client.sendall(picture()[-10:] + last)
            received = b""
            while chunk := client.recv(65536):
                received += chunk
    finally:
        process.kill()
        process.communicate()
    heads = [part.split(b"\r\n")[0] for part in received.split(b"HTTP/1.1 ")[1:]]
    assert heads == [b"503 Service Unavailable", b"200 OK"] * 2
    assert received.lower().count(b"retry-after: 3\r\n") == 2
    assert received.count(b'"type":"/problems/overloaded"') == 2


def test_refusals_that_nobody_takes(stripe_model: Path) -> None:
    """A client that is refused on and on and never reads is cut off, its answers not kept."""
    process = start(_ALWAYS_FULL, port=0, model_path=stripe_model, request_seconds=20)
    request = HEAD + b"A: " + b"b" * 1000 + b"\r\nContent-Length: 0\r\n\r\n"
    sent = 0
    try:
        url = urlsplit(address_of(process))
        with socket.create_connection((url.hostname or "", url.port or 0)) as client:
            client.settimeout(1)
            with suppress(OSError):
                while sent < 60_000:
                    client.sendall(request * 100)
                    sent += 100
    finally:
        process.kill()
        process.communicate()
    assert sent < 60_000


def test_inference_is_refused_in_its_own_words(stripe_model: Path) -> None:
    """Under overload, clients of the Open Inference Protocol get an error of its shape."""
    process = start(_ALWAYS_FULL, port=0, model_path=stripe_model)
    try:
        answer = httpx2.post(f"{address_of(process)}/v2/models/stripes/infer", json={})
    finally:
        process.kill()
        process.communicate()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert set(answer.json()) == {"error"}
