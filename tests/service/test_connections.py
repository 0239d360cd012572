"""How many connections are held, and which give way."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import Mock

import pytest

from service.server.connections import Connections
from tests import stripes
from tests.service.server import serving
from tests.service.wire import HEAD, READY, answers, connection, picture

MOST = 8


class Fake:
    """A connection, and whether it is being answered."""

    def __init__(self) -> None:
        self.answered = self.closed = False

    def give_way(self) -> bool:
        """As `Connection` has it."""
        self.closed = not self.answered
        return self.closed


def test_the_oldest_that_was_never_used_gives_way() -> None:
    """Before any that was; of those, the one used the longest ago; never one being answered."""
    held = Connections(3)
    idle, busy, useful, late = (Fake() for _ in range(4))
    for one in (useful, busy, idle):
        held.add(one)
    busy.answered = True
    held.used(busy)
    held.used(useful)
    held.add(late)
    assert [one.closed for one in (idle, busy, useful, late)] == [True, False, False, False]
    held.used(late)
    newest = Fake()
    held.add(newest)
    # Unused as it is itself, it finds no room among those that were.
    assert [one.closed for one in (busy, useful, late, newest)] == [False, False, False, True]


def test_lost_connections_make_room() -> None:
    """However they ended."""
    held = Connections(1)
    first, second = Fake(), Fake()
    held.add(first)
    held.remove(first)
    held.remove(first)
    held.add(second)
    assert not first.closed
    assert not second.closed


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Where a service listens that holds few connections."""
    model = stripes.write_model(tmp_path_factory.mktemp("model") / "stripes.onnx")
    with serving(model_path=model, max_connections=MOST) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        yield host, int(port)


@contextmanager
def holding(address: tuple[str, int], count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Connections on each of which that was sent."""
    with ExitStack() as stack:
        held = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(address, timeout=20))
            one.sendall(sent)
            held.append(one)
        yield held


def ask(connection: socket.socket, request: bytes) -> bytes:
    """The first line of the answer."""
    connection.sendall(request)
    return connection.recv(65536).partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", []),
        (b"GET /health/ready HTT", [503]),
        (HEAD + b"Content-Length: 9\r\n\r\nx", [503]),
    ],
    ids=["silent", "half a head", "half a body"],
)
def test_who_holds_connections_cannot_keep_others_out(
    sent: bytes, told: list[int], address: tuple[str, int]
) -> None:
    """The oldest of theirs are closed, with a word if a request had begun; a good client stays."""
    with socket.create_connection(address, timeout=20) as good:
        assert ask(good, READY).endswith(b"200 OK")
        with holding(address, 3 * MOST, sent) as held:
            assert ask(good, picture(b"")).endswith(b"200 OK")
            with socket.create_connection(address, timeout=20) as another:
                assert ask(another, READY).endswith(b"200 OK")
            assert [status for status, _ in answers(held[0])] == told
            assert told == [] or b"retry-after: 1\r\n" in held[1].recv(65536).lower()
        assert ask(good, READY).endswith(b"200 OK")


@pytest.mark.parametrize(
    ("sent", "gives_way"),
    [
        (b"", True),
        (READY, False),
        (READY + READY[:9], False),
        (READY + HEAD + b"Content-Length: 9\r\n\r\nx", False),
        (HEAD + b"Content-Length: 9\r\n\r\nx", True),
    ],
    ids=["silent", "asked", "and asks again", "and sends more", "sends"],
)
def test_an_answer_is_waited_for(sent: bytes, gives_way: bool) -> None:
    """Whoever has asked gets it, whatever else arrives behind the question."""

    async def asked() -> bool:
        protocol = connection()
        protocol.data_received(sent)
        return protocol.give_way()

    assert asyncio.run(asked()) is gives_way


def test_one_answer_is_enough() -> None:
    """A refused connection that waits for its client to hear gives way without another."""
    tiny = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 5000

    async def written() -> list[bytes]:
        protocol = connection()
        write = protocol.transport.write = Mock()  # type: ignore[method-assign]
        protocol.data_received(tiny)
        assert protocol.give_way()
        return [call.args[0] for call in write.mock_calls]

    (answer,) = asyncio.run(written())
    assert answer.startswith(b"HTTP/1.1 400 ")
