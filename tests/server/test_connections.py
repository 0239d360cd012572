"""The limit on connections, and which connections are closed to make room for others."""

import asyncio
import json
import resource
import select
import socket
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

MAX_OPEN = 8
MAX_FILES = 256


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Host and port of a service that holds few connections."""
    model = stripes.write_model(tmp_path_factory.mktemp("model") / "stripes.onnx")
    with serving(model_path=model, max_connections=MAX_OPEN, request_seconds=120) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        yield host, int(port)


@contextmanager
def holding(address: tuple[str, int], count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Opens so many connections, and sends the same bytes on each of them."""
    with ExitStack() as stack:
        held = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(address, timeout=20))
            one.sendall(sent)
            held.append(one)
        yield held


def ask(connection: socket.socket, request: bytes) -> bytes:
    """Sends a request, and gives the first line of the answer."""
    connection.sendall(request)
    answer = b""
    while not answer.endswith(b"}"):
        more = connection.recv(65536)
        assert more, answer
        answer += more
    return answer.partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"", []),
        (b"GET /health/ready HTT", [503]),
        (HEAD + b"Content-Length: 9\r\n\r\nx", [503]),
    ],
    ids=["nothing", "half a head", "half a body"],
)
def test_connections_without_a_complete_request_cannot_keep_others_out(
    sent: bytes, expected: list[int], address: tuple[str, int]
) -> None:
    """The oldest of them are closed, with a 503 if a request had begun. Used ones stay open."""
    with socket.create_connection(address, timeout=20) as good:
        assert ask(good, READY).endswith(b"200 OK")
        with holding(address, 3 * MAX_OPEN, sent) as held:
            assert ask(good, picture(b"")).endswith(b"200 OK")
            with socket.create_connection(address, timeout=20) as another:
                assert ask(another, READY).endswith(b"200 OK")
            assert [status for status, _ in answers(held[0])] == expected
            assert expected == [] or b"retry-after: 1\r\n" in held[1].recv(65536).lower()
        assert ask(good, READY).endswith(b"200 OK")


def test_the_connection_that_is_idle_longest_is_closed(address: tuple[str, int]) -> None:
    """If all connections have been used, one of them makes room for a new client."""
    with holding(address, MAX_OPEN, b"") as held:
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


def test_an_address_with_many_connections_keeps_out_no_other(address: tuple[str, int]) -> None:
    """Its own connections are closed, both used ones and new ones that come all the time."""
    with socket.create_connection(address, timeout=20, source_address=OTHER) as good:
        assert ask(good, READY).endswith(b"200 OK")
        with holding(address, MAX_OPEN, b"") as held:
            for one in held[1:]:
                assert ask(one, READY).endswith(b"200 OK")
            with (
                socket.create_connection(address, timeout=20, source_address=OTHER) as another,
                holding(address, 3 * MAX_OPEN, b"") as more,
            ):
                assert ask(more[-1], READY).endswith(b"200 OK")
                assert ask(another, READY).endswith(b"200 OK")
        assert ask(good, READY).endswith(b"200 OK")


def test_an_address_that_takes_no_answers_keeps_out_no_other(address: tuple[str, int]) -> None:
    """Even though none of its connections is idle: each has a request that is being answered."""

    def is_full() -> bool:
        with socket.create_connection(address, timeout=20) as one:
            try:
                one.sendall(LAST)
            except OSError:
                return True
            return received(one) == b""

    requests = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 16
    with ExitStack() as stack:
        for _ in range(MAX_OPEN):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(address)
            one.sendall(requests)
            assert one.recv(1)
        until(is_full, "a new client is turned away")
        for _ in range(MAX_OPEN // 4):
            good = stack.enter_context(
                socket.create_connection(address, timeout=20, source_address=OTHER)
            )
            assert ask(good, READY).endswith(b"200 OK")
        assert is_full()


def test_the_limit_on_connections_follows_the_limit_on_open_files(stripe_model: Path) -> None:
    """If few files may be open, connections are closed in time, and the log names that limit."""

    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, MAX_FILES))

    process = start(port=0, model_path=stripe_model, options={"preexec_fn": few_files})
    try:
        output = lines_until(process, "running on http://")
        assert f"the process may open {MAX_FILES} files" in output
        url = address_in(output)
        wait(url)
        host, _, port = url.removeprefix("http://").partition(":")
        with holding((host, int(port)), MAX_FILES + 100, b"") as held:
            with socket.create_connection((host, int(port)), timeout=20) as good:
                assert ask(good, READY).endswith(b"200 OK")
            assert answers(held[0]) == []
        process.terminate()
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Too many open files" not in rest
    finally:
        process.kill()


def test_untaken_answers_are_bounded(tmp_path: Path) -> None:
    """A connection is closed if its untaken answer is too large. A smaller answer stays whole."""
    model = stripes.write_model(tmp_path / "stripes.onnx")
    limits = {"max_upload_bytes": 10_000, "max_batch_bytes": 20_000, "max_bodies_bytes": 20_000}
    paths = (b"/openapi.json", b"/swagger-ui/swagger-ui-bundle.js")
    with serving(model_path=model, request_seconds=120, **limits) as url, ExitStack() as stack:
        host, _, port = url.removeprefix("http://").partition(":")
        held = []
        for path in paths:
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.settimeout(20)
            one.connect((host, int(port)))
            one.sendall(LAST.replace(b"/health/ready", path))
            held.append(one)
        cut_off = select.poll()
        cut_off.register(held[1], 0)  # reports errors and the end of the connection
        assert cut_off.poll(30_000)
        whole, cut = (received(one) for one in held)
        assert cut.startswith(b"HTTP/1.1 200 ")
        assert len(cut) < 1_000_000  # of 1.5 million
        ((status, document),) = parsed(whole)
        assert status == 200
        assert json.loads(document)


def test_untaken_answers_are_bounded_at_once() -> None:
    """Even if many clients come in the time between two checks."""
    size = 1 << 20
    assert 10 <= len(kept([("10.0.0.1", size)] * 30)) <= 14


@pytest.mark.parametrize("end", ["close", "keep-alive", "half-closed"])
def test_the_system_keeps_few_untaken_answers(end: str, tmp_path: Path) -> None:
    """At most as many as connections may be open, however many there have been."""
    model = stripes.write_model(tmp_path / "model.onnx")
    with serving(model_path=model, max_connections=MAX_OPEN) as address, ExitStack() as stack:
        host, port = urlsplit(address).hostname, urlsplit(address).port
        fields = b"Connection: close\r\n" if end == "close" else b""
        for _ in range(10 * MAX_OPEN):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
            client.connect((host, port))
            client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n")
            if end == "half-closed":
                client.shutdown(socket.SHUT_WR)
            client.recv(1)  # the answer has begun
        assert untaken_connections(port) <= MAX_OPEN + 1


def untaken_connections(port: int | None) -> int:
    """The number of connections from a port with data that the client has not taken."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sending = [row[4].partition(":")[0] for row in rows if row[1].endswith(f":{port:04X}")]
    return sum(int(size, 16) > 0 for size in sending)


def test_many_untaken_answers_of_a_client_are_cut_off_before_a_larger_one_of_another() -> None:
    """What counts is the size of all answers that a client has not taken."""
    size = 1 << 20
    assert 0 in kept([("10.0.0.2", 3 * size)] + [("10.0.0.1", size)] * 30)


def kept(answers: list[tuple[str, int]]) -> set[int]:
    """Numbers of the answers that are not cut off, if no client takes any.

    Args:
        answers: address of the client and size in bytes of each; there is room for 12 MiB.
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
            for _ in range(9):  # until the request is answered
                await asyncio.sleep(0)
        return kept

    return asyncio.run(held())


def test_many_requests_for_files_take_few_threads() -> None:
    """A container may have 128 threads in all workers; to start one more fails."""
    with watched() as service:
        before = service.usage().threads

        def ask(_: int) -> int | None:
            return service.server.status_of("/swagger-ui/swagger-ui.css")

        with ThreadPoolExecutor(40) as clients:
            assert set(clients.map(ask, range(400))) == {200}
        assert service.usage().threads - before <= 8
