"""Requests that share a connection: each has its own end, its own time and its own answer."""

import asyncio
import json
import socket
import time
from unittest.mock import Mock

import pytest

from tests import stripes
from tests.service.wire import HEAD, READY, SECONDS, answers, connection, picture, talk

KEY = b"X-API-Key: secret\r\n"
CLOSE = READY[:-2] + b"Connection: close\r\n\r\n"
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize("pause", [0.0, SECONDS / 5], ids=["at once", "in two"])
def test_an_offer_of_another_protocol(pause: float, address: tuple[str, int]) -> None:
    """It is not taken, and the request read like any other, its body included (RFC 9110, 7.8)."""
    head, _, body = picture(KEY + OFFER).partition(b"\r\n\r\n")
    received = talk(address, head + b"\r\n\r\n", body + CLOSE, pause=pause)
    assert [status for status, _ in received] == [200, 200]
    assert json.loads(received[0][1])["text"] == "ab"


def test_a_body_is_no_request(address: tuple[str, int]) -> None:
    """Behind the offer of another protocol neither, whatever it looks like."""
    length = b"Content-Length: %d\r\n\r\n" % len(READY)
    received = talk(address, HEAD + KEY + OFFER + length, READY, CLOSE, pause=SECONDS / 5)
    assert [status for status, _ in received] == [415, 200]


def test_tunnels_are_not_dug(address: tuple[str, int]) -> None:
    """The service is no proxy."""
    request = b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n"
    assert [status for status, _ in talk(address, request)] == [400]


def test_a_key_behind_the_body_does_not_count(address: tuple[str, int]) -> None:
    """Trailer fields are no headers (RFC 9110, 6.5.1)."""
    body = stripes.picture("ab")
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    request = head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n" + KEY + b"\r\n"
    assert [status for status, _ in talk(address, request)] == [401]


def test_every_request_has_its_deadline(address: tuple[str, int]) -> None:
    """Also one that begins together with the end of the one before."""
    begun = HEAD + KEY + b"Content-Length: 100\r\n\r\nabc"
    assert [status for status, _ in talk(address, READY + begun)] == [200, 408]


@pytest.mark.parametrize(
    "late",
    [
        b"!\r\n\r\n",
        READY[:-2] + b"A: " + b"b" * 5000 + b"\r\n\r\n",
        HEAD + b"Content-Length: x\r\n\r\n",
    ],
    ids=["no HTTP", "headers", "length"],
)
def test_nobody_gets_the_answer_to_another(late: bytes, address: tuple[str, int]) -> None:
    """What is wrong with a request is not told while one before it waits for its answer."""
    assert {status for status, _ in talk(address, picture() + late)} <= {200}


def test_a_request_has_one_answer(address: tuple[str, int]) -> None:
    """Also where its body turns out to be wrong after it has been refused."""
    begun = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"  # without a key
    received = talk(address, begun, b"ZZ\r\n", pause=SECONDS / 4)
    assert [status for status, _ in received] == [401]


def test_a_refusal_is_one_answer() -> None:
    """Under overload, too."""

    async def test() -> bytes:
        protocol = connection(answer=b"no")
        write = Mock()
        protocol.transport.write = write  # type: ignore[method-assign]
        protocol.data_received(HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n")
        return b"".join(call.args[0] for call in write.mock_calls)

    assert asyncio.run(test()) == b"no"


def test_who_hangs_up_behind_a_large_body_is_seen_to() -> None:
    """The connection is read on once the body is there; before, no faster than it is taken."""

    async def test() -> list[bool]:
        protocol = connection()
        protocol.data_received(HEAD + b"Content-Length: 200000\r\n\r\n")
        paused = []
        for _ in range(2):
            protocol.data_received(b"a" * 100_000)
            paused.append(protocol.flow.read_paused)
        protocol.data_received(READY)
        paused.append(protocol.flow.read_paused)  # for one request waits already
        protocol.connection_lost(None)
        return paused

    assert asyncio.run(test()) == [True, False, True]


def test_an_early_answer_does_not_end_the_waiting() -> None:
    """A connection whose request was answered before its body came is not held for ever."""

    async def test() -> None:
        protocol = connection()
        protocol.data_received(HEAD + b"Content-Length: 3\r\n\r\n")
        protocol.cycle.response_started = protocol.cycle.response_complete = True
        protocol.data_received(b"abc")
        assert protocol.timeout_keep_alive_task is not None
        protocol.connection_lost(None)

    asyncio.run(test())


@pytest.mark.parametrize("following", [READY, READY[:20]], ids=["whole", "begun"])
def test_the_next_request_ends_the_waiting(
    following: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it comes in one piece with the end of one that was answered early."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        protocol = connection()
        protocol.data_received(HEAD + b"Content-Length: 3\r\n\r\n")
        protocol.cycle.response_started = protocol.cycle.response_complete = True
        protocol.data_received(b"abc" + following)
        close = protocol.transport.close = Mock()  # type: ignore[method-assign]
        protocol.transport.is_closing = lambda: close.called
        late = loop.time() + 2 * protocol.timeout_keep_alive
        monkeypatch.setattr(loop, "time", lambda: late)
        protocol.timeout_keep_alive_handler()
        assert not close.called
        protocol.expect_another()
        assert protocol.timeout_keep_alive_task is not None
        assert protocol.timeout_keep_alive_task.when() > late
        protocol.connection_lost(None)

    asyncio.run(test())


def test_refusals_leave_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several in a row only the last waits for another request."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        timers, call_later = [], loop.call_later

        def noted(*arguments: object) -> asyncio.TimerHandle:
            timers.append(call_later(*arguments))  # type: ignore[arg-type]
            return timers[-1]

        protocol = connection(answer=b"no")
        monkeypatch.setattr(loop, "call_later", noted)
        for _ in range(3):
            protocol.data_received(2 * (HEAD + b"Content-Length: 0\r\n\r\n"))
            await asyncio.sleep(0)
        assert sum(not timer.cancelled() for timer in timers) == 1
        protocol.connection_lost(None)
        assert all(timer.cancelled() for timer in timers)

    asyncio.run(test())


def test_refusals_put_off_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection ends when nothing has come since the last request, and not since the first."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        protocol = connection(answer=b"no")
        close = protocol.transport.close = Mock()  # type: ignore[method-assign]
        protocol.transport.is_closing = lambda: close.called
        now = loop.time()

        def at(seconds: float) -> None:
            monkeypatch.setattr(loop, "time", lambda: now + seconds * protocol.timeout_keep_alive)

        for seconds in (0.0, 0.5, 0.9):
            at(seconds)
            protocol.data_received(HEAD + b"Content-Length: 0\r\n\r\n")
        at(1.0)
        protocol.timeout_keep_alive_handler()
        assert not close.called
        assert not protocol._abort.runs
        assert protocol.timeout_keep_alive_task is not None
        waits = protocol.timeout_keep_alive_task.when() - loop.time()
        assert waits == pytest.approx(0.9 * protocol.timeout_keep_alive)
        at(1.9)
        protocol.timeout_keep_alive_handler()
        assert close.called
        assert protocol._abort.runs
        protocol.connection_lost(None)

    asyncio.run(test())


def test_refusals_at_once_are_bounded() -> None:
    """However many requests arrive in one piece, few are answered before the client reads."""

    async def test() -> int:
        protocol = connection(answer=b"no")
        write = Mock(wraps=protocol.transport.write)
        protocol.transport.write = write  # type: ignore[method-assign]
        protocol.data_received(1000 * (HEAD + b"Content-Length: 0\r\n\r\n"))
        return write.call_count

    assert asyncio.run(test()) < 20


def test_the_end_is_told() -> None:
    """A request that arrives after the server began to end is answered, and is the last."""

    async def test() -> bool:
        protocol = connection()
        protocol.shutdown()
        protocol.data_received(READY)
        return protocol.cycle.keep_alive

    assert not asyncio.run(test())


def test_an_idle_connection_is_closed(address: tuple[str, int]) -> None:
    """After some seconds without a request, and not before."""
    with socket.create_connection(address, timeout=20) as client:
        client.sendall(READY)
        began = time.monotonic()
        assert [status for status, _ in answers(client)] == [200]
        assert time.monotonic() - began > 2 * SECONDS
