"""How many connections are held, and which are closed for others."""

import asyncio
import json
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.responses import PlainTextResponse

from service.server.connections import Connections
from service.server.protocol import Protocol
from service.settings import Settings
from tests import stripes
from tests.hostile.process import watched
from tests.server.process import address_in, lines_until, serving, start, until, wait
from tests.server.wire import (
    HEAD,
    LAST,
    READY,
    answers,
    parsed,
    picture,
    received,
    transport,
    unconnected,
)

MOST = 8
FILES = 256


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Where a service listens that holds few connections."""
    model = stripes.write_model(tmp_path_factory.mktemp("model") / "stripes.onnx")
    with serving(model_path=model, max_connections=MOST, request_seconds=120) as url:
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
    answer = b""
    while not answer.endswith(b"}"):
        more = connection.recv(65536)
        assert more, answer
        answer += more
    return answer.partition(b"\r\n")[0]


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


def test_the_longest_idle_is_closed(address: tuple[str, int]) -> None:
    """Where all connections have been used, a new client takes the place of one."""
    with holding(address, MOST, b"") as held:
        for one in held:
            assert ask(one, READY).endswith(b"200 OK")
        assert ask(held[0], READY).endswith(b"200 OK")
        with socket.create_connection(address, timeout=20) as another:
            assert ask(another, READY).endswith(b"200 OK")
        assert answers(held[1]) == []
        for one in (held[0], *held[2:]):
            assert ask(one, READY).endswith(b"200 OK")


OTHER = ("127.0.0.2", 0)
"""The address of another client."""


def test_an_address_with_many_keeps_out_no_other(address: tuple[str, int]) -> None:
    """Of used connections, and new ones that come all the time, it has its own closed."""
    with socket.create_connection(address, timeout=20, source_address=OTHER) as good:
        assert ask(good, READY).endswith(b"200 OK")
        with holding(address, MOST, b"") as held:
            for one in held[1:]:
                assert ask(one, READY).endswith(b"200 OK")
            with (
                socket.create_connection(address, timeout=20, source_address=OTHER) as another,
                holding(address, 3 * MOST, b"") as more,
            ):
                assert ask(more[-1], READY).endswith(b"200 OK")
                assert ask(another, READY).endswith(b"200 OK")
        assert ask(good, READY).endswith(b"200 OK")


def test_an_address_whose_requests_are_answered_keeps_out_no_other(
    address: tuple[str, int],
) -> None:
    """Not even where it takes no answers, so that none of its connections is idle."""

    def is_full() -> bool:
        with socket.create_connection(address, timeout=20) as one:
            try:
                one.sendall(LAST)
            except OSError:
                return True
            return received(one) == b""

    untaken = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 16
    with ExitStack() as stack:
        for _ in range(MOST):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(address)
            one.sendall(untaken)
            assert one.recv(1)
        until(is_full, "a new client is turned away")
        for _ in range(MOST // 4):
            good = stack.enter_context(
                socket.create_connection(address, timeout=20, source_address=OTHER)
            )
            assert ask(good, READY).endswith(b"200 OK")
        assert is_full()


def test_the_limit_follows_the_descriptors(stripe_model: Path) -> None:
    """Where few files may be open, connections are closed in time, and the log says how many."""

    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))

    process = start(port=0, model_path=stripe_model, options={"preexec_fn": few_files})
    try:
        output = lines_until(process, "running on http://")
        assert f"the process may open {FILES} files" in output
        url = address_in(output)
        wait(url)
        host, _, port = url.removeprefix("http://").partition(":")
        with holding((host, int(port)), FILES + 100, b"") as held:
            with socket.create_connection((host, int(port)), timeout=20) as good:
                assert ask(good, READY).endswith(b"200 OK")
            assert answers(held[0]) == []
        process.terminate()
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Too many open files" not in rest
    finally:
        process.kill()


def test_answers_that_nobody_takes_are_bounded(tmp_path: Path) -> None:
    """Of two connections with untaken answers, the one with more is closed; the other goes on."""
    model = stripes.write_model(tmp_path / "stripes.onnx")
    limits = {"max_upload_bytes": 10_000, "max_batch_bytes": 20_000, "max_bodies_bytes": 20_000}
    paths = (b"/swagger-ui/swagger-ui-bundle.js", b"/openapi.json")
    with serving(model_path=model, request_seconds=4, **limits) as url, ExitStack() as stack:
        host, _, port = url.removeprefix("http://").partition(":")
        held = []
        for path in paths:
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.settimeout(20)
            one.connect((host, int(port)))
            one.sendall(LAST.replace(b"/health/ready", path))
            held.append(one)
        time.sleep(1.5)  # three times what lies between two looks
        cut, whole = (received(one) for one in held)
        assert cut.startswith(b"HTTP/1.1 200 ")
        assert len(cut) < 1_000_000  # of 1.5 million
        ((status, document),) = parsed(whole)
        assert status == 200
        assert json.loads(document)


def test_answers_that_nobody_takes_are_bounded_at_once() -> None:
    """Also where many clients come within the time between two looks."""
    size = 1 << 20
    assert 10 <= len(kept([("10.0.0.1", size)] * 30)) <= 14


@pytest.mark.parametrize("end", ["close", "keep-alive", "half-closed"])
def test_the_system_keeps_no_answers_that_nobody_takes(end: str, tmp_path: Path) -> None:
    """Beyond the connections that may be open, however many there have been."""
    model = stripes.write_model(tmp_path / "model.onnx")
    with serving(model_path=model, max_connections=MOST) as address, ExitStack() as stack:
        host, port = urlsplit(address).hostname, urlsplit(address).port
        fields = b"Connection: close\r\n" if end == "close" else b""
        for _ in range(10 * MOST):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
            client.connect((host, port))
            client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n")
            if end == "half-closed":
                client.shutdown(socket.SHUT_WR)
            client.recv(1)  # it is being answered
        assert untaken(port) <= MOST + 1


def untaken(port: int | None) -> int:
    """How many of the system's connections from a port have data that are not taken yet."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sending = [row[4].partition(":")[0] for row in rows if row[1].endswith(f":{port:04X}")]
    return sum(int(size, 16) > 0 for size in sending)


def test_a_client_that_leaves_many_answers_loses_no_larger_one_of_another() -> None:
    """Which is the largest, but all that it leaves."""
    size = 1 << 20
    assert 0 in kept([("10.0.0.2", 3 * size)] + [("10.0.0.1", size)] * 30)


def kept(answers: list[tuple[str, int]]) -> set[int]:
    """Those that are not cut off of answers that nobody takes.

    Args:
        answers: addresses of their clients, and sizes in bytes; there is room for 12 MiB.
    """
    connections = Connections(Settings(max_bodies_bytes=12 << 20), 99)

    async def held() -> set[int]:
        kept = set()
        for number, (address, size) in enumerate(answers):
            protocol = unconnected(PlainTextResponse(bytes(size)), connections)
            slow = transport(address)
            slow.get_write_buffer_size.return_value = size

            def abort(number: int = number, protocol: Protocol = protocol) -> None:
                kept.discard(number)
                protocol.connection_lost(None)

            slow.abort.side_effect = abort
            kept.add(number)
            protocol.connection_made(slow)
            protocol.data_received(READY)
            for _ in range(9):  # until it has been answered
                await asyncio.sleep(0)
        return kept

    return asyncio.run(held())


def test_who_asks_for_many_files_takes_few_threads() -> None:
    """A container may have 128 of all workers, and what needs one more fails."""
    with watched() as service:
        before = service.usage().threads

        def ask(_: int) -> int | None:
            return service.server.status_of("/swagger-ui/swagger-ui.css")

        with ThreadPoolExecutor(40) as clients:
            assert set(clients.map(ask, range(400))) == {200}
        assert service.usage().threads - before <= 8
