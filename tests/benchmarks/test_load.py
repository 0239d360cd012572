import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest

from benchmarks.connection import Address, exchange, parse_answer
from benchmarks.load import UNANSWERED, LoadGenerator
from benchmarks.payloads import get, post

Behave = Callable[[BaseHTTPRequestHandler, int], None]


@contextmanager
def server(behave: Behave) -> Iterator[Address]:
    """An HTTP server that calls `behave` with each request and the request's number, from 0."""
    numbers = iter(range(1_000_000))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            behave(self, next(numbers))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield Address("127.0.0.1", http.server_port)
        http.shutdown()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, status: int = 200, close: bool = False) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", "2")
    if close:
        handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(b"ok")


REQUEST = post("/", "text/plain", b"hello")


@pytest.mark.parametrize("cut", [3, 20, 45, -1])
def test_an_answer_counts_when_it_is_complete(cut: int) -> None:
    """Until its last byte has come, an answer is incomplete."""
    whole = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nhello"
    assert parse_answer(whole[:cut]) is None
    assert parse_answer(whole) == (503, True)


def test_an_answer_can_close_the_connection() -> None:
    """The case of the header's name and value does not matter."""
    head = b"HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n"
    assert parse_answer(head) == (200, False)


def test_an_answer_without_a_length_is_refused() -> None:
    """Without a length, the end of an answer is unknown."""
    with pytest.raises(ValueError, match="Content-Length"):
        parse_answer(b"HTTP/1.1 200 OK\r\n\r\n")


def test_every_scheduled_request_has_one_outcome() -> None:
    """Requests are scheduled at equal intervals; an outcome has the status of the answer."""

    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        answer(handler, 503 if number % 2 else 200, close=number % 5 == 0)

    with server(behave) as address, LoadGenerator(address, [REQUEST], 4) as load:
        outcomes = load.open_loop(rate=100, seconds=0.5)
    assert sorted(o.status for o in outcomes) == [200] * 25 + [503] * 25
    times = sorted(o.scheduled for o in outcomes)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == pytest.approx([0.01] * 49)
    assert all(o.scheduled <= o.sent <= o.ended for o in outcomes)


def test_the_wait_behind_a_slow_request_counts_as_latency() -> None:
    """One slow answer delays all requests due meanwhile, and each latency shows the delay."""
    stall = 0.4

    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        time.sleep(stall if number == 0 else 0)
        answer(handler)

    with server(behave) as address, LoadGenerator(address, [REQUEST], 1) as load:
        outcomes = load.open_loop(rate=100, seconds=0.5)
    assert len(outcomes) == 50
    # Requests due in the first half of the stall wait at least for its second half.
    assert sum(o.latency >= stall / 2 for o in outcomes) >= 20


def test_a_closed_loop_has_one_open_request_on_each_connection() -> None:
    """As many requests are open as there are connections, and every request is answered."""
    lock, now, most = threading.Lock(), [0], [0]

    def behave(handler: BaseHTTPRequestHandler, _: int) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= 1
        answer(handler)

    with server(behave) as address, LoadGenerator(address, [REQUEST], 3) as load:
        outcomes = load.closed_loop(0.2)
    assert most[0] == 3
    assert {o.status for o in outcomes} == {200}


def test_a_request_on_a_reset_connection_counts_as_unanswered() -> None:
    """The next request takes a new connection."""

    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
        else:
            answer(handler)

    with server(behave) as address, LoadGenerator(address, [REQUEST], 1) as load:
        outcomes = load.open_loop(rate=50, seconds=0.2)
    assert [o.status for o in outcomes] == [200, UNANSWERED] + [200] * 8


def test_requests_that_are_given_up_count_as_unanswered() -> None:
    """Requests are given up without an answer in time, or without a free connection."""
    release = threading.Event()

    def behave(handler: BaseHTTPRequestHandler, _: int) -> None:
        release.wait()

    with server(behave) as address:
        with LoadGenerator(address, [REQUEST], 2) as load:
            outcomes = load.open_loop(rate=50, seconds=0.2, patience=0.1)
        release.set()
    assert [o.status for o in outcomes] == [UNANSWERED] * 10
    assert sum(o.sent < float("inf") for o in outcomes) == 2


def test_requests_to_a_missing_server_count_as_unanswered() -> None:
    """Every request ends; no request hangs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", free.getsockname()[1])
    with LoadGenerator(address, [get("/")], 2) as load:
        outcomes = load.open_loop(rate=50, seconds=0.1)
    assert [o.status for o in outcomes] == [UNANSWERED] * 5


def test_large_requests_are_sent_completely() -> None:
    """The requests are larger than the socket's buffers, and the server does not read at once."""
    body = bytes(8 << 20)
    lengths = []

    def behave(handler: BaseHTTPRequestHandler, _: int) -> None:
        lengths.append(int(handler.headers["Content-Length"]))
        answer(handler)

    request = post("/", "application/octet-stream", body)
    with server(behave) as address, LoadGenerator(address, [request], 2) as load:
        outcomes = load.open_loop(rate=20, seconds=0.2)
    assert [o.status for o in outcomes] == [200] * 4
    assert lengths == [len(body)] * 4


@pytest.mark.parametrize("spins", [False, True])
def test_a_generator_with_a_core_of_its_own_never_sleeps(
    monkeypatch: pytest.MonkeyPatch, spins: bool
) -> None:
    """Waking the generator for every answer would cost the server CPU time."""
    waits: list[float] = []
    unwatched = select.select

    def watched(read: list[Any], write: list[Any], other: list[Any], seconds: float) -> Any:
        waits.append(seconds)
        return unwatched(read, write, other, seconds)

    monkeypatch.setattr(LoadGenerator, "spins", spins)
    monkeypatch.setattr(select, "select", watched)
    with (
        server(lambda handler, _: answer(handler)) as address,
        LoadGenerator(address, [REQUEST], 1) as generator,
    ):
        outcomes = generator.open_loop(rate=50, seconds=0.1)
        outcomes += generator.closed_loop(seconds=0.1)
    assert {outcome.status for outcome in outcomes} == {200}
    assert (max(waits) == 0) == spins


def test_one_exchange_gives_status_and_body() -> None:
    """With `exchange`, benchmarks check an answer before they measure."""
    with server(lambda handler, _: answer(handler, 503)) as address:
        assert exchange(address, REQUEST) == (503, b"ok")
