"""Connections on which too much is refused rest, and no longer than it takes."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest

from benchmarks.connection import Address
from benchmarks.load import LoadGenerator
from benchmarks.payloads import post
from service.server.pacing import Pacing
from service.server.refusing import OVERLOAD, RefusingProtocol
from tests import stripes
from tests.service.server import ROOT, serving
from tests.service.wire import connection, picture

MODEL = ROOT / "models" / "captcha.onnx"


class Clock:
    """An event loop of which a test turns the hands."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        """In seconds."""
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """When it is turned to then."""
        self.timers.append((self.now + seconds, call))

    def turn(self) -> None:
        """To the next timer, which may be late."""
        (due, call), *self.timers = self.timers
        self.now = max(self.now, due)
        call()


class Client:
    """A connection that is refused; it tells when it is read."""

    reading = True

    def rest(self) -> bool:
        """Whether it was read before."""
        read, self.reading = self.reading, False
        return read

    def go_on(self) -> None:
        """Is read again."""
        self.reading = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: clock)
    return clock


def pacing(milliseconds: float = 1.0, threads: int = 1) -> Pacing:
    """Beside threads that read a picture in so many milliseconds."""
    pool: Any = SimpleNamespace(mean_seconds=milliseconds / 1000, threads=threads)
    return Pacing(pool)


def test_at_ten_times_the_load_nobody_rests(clock: Clock) -> None:
    """Nine are refused of ten that arrive; nor where the event loop comes late to look."""
    paced, clients = pacing(milliseconds=2, threads=2), [Client() for _ in range(90)]
    for late in (0, 0, 2, 0, 2):
        for _ in range(1 + late):
            clock.now += 0.01
            for client in clients:
                paced.refused(client)
        assert all(client.reading for client in clients)
        clock.turn()


@pytest.mark.parametrize("weight", [1, 8])
def test_who_asks_again_at_once_rests(weight: int, clock: Clock) -> None:
    """However few ask, refusing costs no more than the threads that read can bear."""
    paced, clients = pacing(milliseconds=1), [Client() for _ in range(40)]
    cost = 0
    for _ in range(100):
        while reading := [client for client in clients if client.reading]:
            for client in reading:
                paced.refused(client, weight)
                cost += weight
        clock.turn()
    read = clock.now / 0.001
    assert 15 * read < cost < 17 * read


def test_nobody_rests_for_long(clock: Clock) -> None:
    """Also not of more clients than can be borne: their requests are answered, if not at once."""
    paced, clients = pacing(milliseconds=20), [Client() for _ in range(500)]
    asked = dict.fromkeys(clients, 0.0)
    for _ in range(100):
        for client in clients:
            if client.reading:
                assert clock.now - asked[client] < 0.05
                asked[client] = clock.now
                paced.refused(client)
        clock.turn()
    assert min(asked.values()) > clock.now - 0.05


def test_those_who_waited_longest_go_on_first(clock: Clock) -> None:
    """And a connection rests once, however many requests it sent at once."""
    paced, first, second = pacing(milliseconds=160), Client(), Client()
    for client in (first, first, first, second, first):
        paced.refused(client)
    clock.turn()
    assert [first.reading, second.reading] == [True, False]
    clock.turn()
    assert second.reading


def test_it_looks_at_nothing_when_nothing_is_refused(clock: Clock) -> None:
    """A service with nothing to do is not woken."""
    paced, client = pacing(), Client()
    for _ in range(50):
        paced.refused(client)
    while clock.timers:
        clock.turn()
    assert client.reading
    assert clock.now < 0.1
    paced.refused(client)
    assert len(clock.timers) == 1


@pytest.mark.parametrize("origin", ["", "Origin: https://a.example\r\n"])
def test_refusing_leaves_time_for_reading(origin: str) -> None:
    """Clients that do not heed Retry-After, be they refused here or, with an origin, further in."""
    request = post("/predict", "image/png", stripes.picture("ab"))
    request = request.replace(b"Accept:", origin.encode() + b"Accept:")
    with serving(model_path=MODEL, queue_requests=8, threads=1) as address:
        url = urlsplit(address)
        at = Address(url.hostname or "", url.port or 0)
        with LoadGenerator(at, [request], connections=24) as load:
            statuses = Counter(outcome.status for outcome in load.closed_loop(2.0))
    assert statuses.keys() == {200, 503}
    assert statuses[503] < (8 if origin else 32) * statuses[200]


def refused() -> tuple[RefusingProtocol, Mock]:
    """A connection on which all is refused, and what hears of it."""
    protocol = connection(answer=b"no")
    protocol.transport.is_closing = lambda: False
    return protocol, protocol.app_state[OVERLOAD].refused


def test_a_refusal_counts_when_its_request_has_arrived() -> None:
    """The rest of the request is to be read; also of one that is refused unparsed."""

    async def test() -> None:
        protocol, hears = refused()
        protocol.data_received(picture()[:-1])
        hears.assert_not_called()
        protocol.data_received(picture()[-1:])
        hears.assert_called_once_with(protocol)
        protocol.data_received(2 * picture())
        assert hears.call_count == 3

    asyncio.run(test())


def test_a_resting_connection_is_not_read() -> None:
    """It rests once, goes on, and does neither when it is closing."""

    async def test() -> None:
        protocol, _ = refused()
        socket = protocol.transport
        assert [protocol.rest(), protocol.rest()] == [True, False]
        socket.pause_reading.assert_called_once()  # type: ignore[attr-defined]
        protocol.go_on()
        socket.resume_reading.assert_called_once()  # type: ignore[attr-defined]
        assert protocol.rest()
        socket.is_closing = lambda: True
        protocol.go_on()
        socket.resume_reading.assert_called_once()  # type: ignore[attr-defined]
        assert not protocol.rest()

    asyncio.run(test())


def test_who_rests_is_heard_before_the_end() -> None:
    """What was sent before the service is told to stop is answered."""

    async def test() -> None:
        protocol, _ = refused()
        protocol.rest()
        protocol.shutdown()
        protocol.transport.resume_reading.assert_called_once()  # type: ignore[attr-defined]

    asyncio.run(test())
