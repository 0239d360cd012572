"""Over real sockets: what a client may do to a connection."""

import asyncio
import gc
import json
import socket
import time
import weakref
from collections import deque
from contextlib import suppress
from itertools import repeat
from pathlib import Path

import httpx2
import pytest

from tests.service.wire import HEAD, READY, SECONDS, answers, connection, picture, talk


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


@pytest.mark.parametrize("before", [b"", b"20000\r\n" + bytes(1 << 17) + b"\r\n"])
def test_who_sends_tiny_chunks_hears_of_it(before: bytes, address: tuple[str, int]) -> None:
    """A body in a million of them is refused early, and the refusal reaches its client."""
    begun = HEAD + b"X-API-Key: secret\r\nTransfer-Encoding: chunked\r\n\r\n"
    received = talk(address, begun + before + b"1\r\nx\r\n" * 10**6 + b"0\r\n\r\n" + READY)
    assert [status for status, _ in received] == [400]
    assert b"at least 64 bytes" in received[0][1]


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
    ((status, body),) = received
    assert (status, json.loads(body)["type"]) == (400, "/problems/bad-request")


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


@pytest.mark.parametrize("request_", [READY, READY[:-9], READY[:-2] + 200 * b"A: b\r\n"])
def test_security_headers(request_: bytes, address: tuple[str, int]) -> None:
    """Every answer forbids guessing its type."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(request_)
        head = connection.recv(65536).lower()
    assert b"x-content-type-options: nosniff" in head
    assert b"server:" not in head


def test_spaces_behind_a_value_are_none_of_it(address: tuple[str, int]) -> None:
    """RFC 9110, 5.5; here, a key that is right."""
    asked = b"GET /model HTTP/1.1\r\nHost: x\r\nX-Request-ID: abc \t\r\nX-API-Key: secret  \r\n\r\n"
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(asked)
        head = connection.recv(65536).lower()
    assert head.startswith(b"http/1.1 200")
    assert b"x-request-id: abc\r\n" in head


@pytest.mark.parametrize("path", ["/", "/health/live", "/health/ready", "/model", "/metrics"])
def test_head_is_get_without_the_body(path: str, address: tuple[str, int]) -> None:
    """For monitors that ask so; the connection goes on behind it."""
    with httpx2.Client(base_url=f"http://{address[0]}:{address[1]}") as client:
        got, asked = client.get(path), client.head(path)
        assert (asked.status_code, asked.content) == (200, b"")
        assert asked.headers["content-type"] == got.headers["content-type"]
        assert client.head("/predict").status_code == 405
        assert client.get("/health/live").content


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
