"""The limit on the memory of all requests, and which request is refused when it is reached."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import urlsplit

import httpx2
import pytest
from pydantic import ValidationError
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.errors import ProblemError, ProblemResponse
from service.api.middleware.proxy_headers import ProxyHeaders
from service.server.connections import Connections
from service.settings import Settings
from tests import stripes
from tests.server.process import serving, until
from tests.server.wire import HEAD, READY, parsed, transport, unconnected

ROOM = 6400
"""Memory for requests, in bytes. An eighth is reserved for bodies of at most 100 bytes."""

ONE, OTHER, LIGHT, PROXY = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"

LIMITS = {"max_upload_bytes": 16_000, "max_batch_bytes": 20_000, "max_bodies_bytes": 24_000}
UPLOAD = HEAD + b"Content-Length: 16000\r\n\r\n"


class App:
    """An application that waits for `may_read`, reads the body, and answers after `may_answer`."""

    def __init__(self) -> None:
        self.may_read, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_read.set()
        self.refused: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        answer: ASGIApp = PlainTextResponse("")
        await self.may_read.wait()
        try:
            while (await receive()).get("more_body", False):
                pass
            await self.may_answer.wait()
        except ProblemError as error:
            self.refused.append(error.kind.status)
            answer = ProblemResponse(error.kind, error.detail)
        await answer(scope, receive, send)


class Client:
    """A client's connection without a socket."""

    def __init__(self, app: ASGIApp, connections: Connections, address: str = ONE) -> None:
        self.protocol, self.transport = unconnected(app, connections), transport(address)
        self.protocol.connection_made(self.transport)

    async def send(self, data: bytes) -> None:
        """Sends bytes, and waits until the application has handled them."""
        self.protocol.data_received(data)
        await settle()

    async def post(self, size: int, more: int = 0, fields: bytes = b"", head: bytes = HEAD) -> None:
        """Sends the head of a request and `size` bytes of its body; `more` bytes are missing."""
        await self.send(head + fields + b"Content-Length: %d\r\n\r\n" % (size + more))
        await self.send(bytes(size))

    @property
    def statuses(self) -> list[int]:
        """The statuses of the answers so far."""
        written = (call.args[0] for call in self.transport.write.call_args_list)
        return [status for status, _ in parsed(b"".join(written))]


async def settle() -> None:
    """Waits for some iterations of the event loop."""
    for _ in range(10):
        await asyncio.sleep(0)


def limited(max_bytes: int = ROOM) -> Connections:
    """Connections whose requests take at most so many bytes of memory."""
    settings = Settings(
        max_upload_bytes=max_bytes // 2, max_batch_bytes=max_bytes, max_bodies_bytes=max_bytes
    )
    return Connections(settings, 199)


def on_event_loop(test: Callable[..., Coroutine[object, object, None]]) -> Callable[..., None]:
    """Runs a test on an event loop."""

    @wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@on_event_loop
async def test_a_body_is_refused_while_unanswered_bodies_take_the_room() -> None:
    """Once an earlier request is answered, there is room again."""
    app, connections = App(), limited()
    first, second = Client(app, connections), Client(app, connections)
    await first.post(4000)
    await second.post(4000)
    assert (first.statuses, second.statuses) == ([], [503])
    app.may_answer.set()
    await settle()
    third = Client(app, connections)
    await third.post(4000)
    assert (first.statuses, third.statuses) == ([200], [200])
    assert connections.request_bytes == 0


@on_event_loop
async def test_a_body_counts_until_its_request_ends_even_if_its_client_has_gone() -> None:
    """A client that closes its connection does not free the memory at once."""
    app, connections = App(), limited()
    gone, second, third = (Client(app, connections) for _ in range(3))
    await gone.post(4000)
    gone.protocol.connection_lost(None)
    await second.post(4000)
    app.may_answer.set()
    await settle()
    await third.post(4000)
    assert (second.statuses, third.statuses) == ([503], [200])
    assert connections.request_bytes == 0


@on_event_loop
async def test_large_bodies_leave_room_for_small_ones() -> None:
    """Large bodies that wait for answers keep out no small ones. One alone may take all room."""
    app, connections = App(), limited()
    clients = [Client(app, connections) for _ in range(5)]
    for client, size in zip(clients, (4000, 2400, 1600, 100, 100), strict=True):
        await client.post(size)
    app.may_answer.set()
    await settle()
    assert [client.statuses for client in clients] == [[200], [503], [200], [200], [200]]
    alone = Client(app, connections)
    await alone.post(ROOM)
    assert alone.statuses == [200]


@pytest.mark.parametrize("path", [b"/predict/batch", b"/v2/models/captcha/infer"])
@on_event_loop
async def test_batches_leave_room_for_single_pictures(path: bytes) -> None:
    """Batches take seconds to be read, whoever sends them. A lone batch may take all the room."""
    app, connections = App(), limited()
    head = HEAD.replace(b"/predict", path)
    batches = [Client(app, connections, f"10.0.1.{number}") for number in range(3)]
    for batch in batches:
        await batch.post(1700, head=head)
    single = Client(app, connections, OTHER)
    await single.post(1000)
    app.may_answer.set()
    await settle()
    assert [batch.statuses for batch in batches] == [[200], [200], [503]]
    assert single.statuses == [200]
    alone = Client(app, connections)
    await alone.post(ROOM, head=head)
    assert alone.statuses == [200]


@on_event_loop
async def test_the_largest_arriving_body_is_refused_to_make_room_for_a_smaller_one() -> None:
    """Its memory is freed at once, and only once. Bytes that its client sends later are dropped."""
    app, connections = App(), limited()
    large, other, small = (Client(app, connections) for _ in range(3))
    await large.post(3000, more=1)
    await other.post(2000, more=1)
    await small.post(1000)
    assert (large.statuses, other.statuses, small.statuses) == ([503], [], [])
    assert connections.request_bytes == 3000
    await large.send(b"x")
    assert connections.request_bytes == 3000
    app.may_answer.set()
    await other.send(b"x")
    assert (other.statuses, small.statuses) == ([200], [200])
    assert connections.request_bytes == 0


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "behind a proxy"])
@on_event_loop
async def test_many_bodies_of_one_client_leave_room_for_others(proxied: bool) -> None:
    """Even if its bodies do not end, and each of them is smaller than another client's body."""
    app, connections = App(), limited()

    async def post(address: str, size: int, more: int) -> Client:
        if not proxied:
            client = Client(app, connections, address)
            await client.post(size, more)
            return client
        behind: ASGIApp = ProxyHeaders(app, trusted_hosts=[PROXY])
        client = Client(behind, connections, PROXY)
        await client.post(size, more, b"X-Forwarded-For: %b\r\n" % address.encode())
        return client

    held = [await post(ONE, 500, more=1) for _ in range(10)]
    light = await post(LIGHT, 590, more=1)
    own = await post(ONE, 600, more=0)
    assert own.statuses == [503]
    assert not any(client.statuses for client in held)
    other = await post(OTHER, 600, more=0)
    assert (other.statuses, light.statuses) == ([], [])
    assert [client.statuses for client in held].count([503]) == 2, "one refusal frees 500 bytes"


@on_event_loop
async def test_a_client_that_sends_less_in_total_keeps_its_larger_body() -> None:
    """A client with many smaller bodies, which together are larger, is refused instead."""
    app, connections = App(), limited()
    held = [Client(app, connections) for _ in range(10)]
    for client in held:
        await client.post(400, more=200)
    other = Client(app, connections, OTHER)
    await other.post(1500, more=1)
    await held[0].send(bytes(150))
    assert (held[0].statuses, other.statuses) == ([503], [])


@on_event_loop
async def test_bodies_that_arrive_slowly_make_room_for_a_large_body_that_arrives_at_once() -> None:
    """Even if each of their clients sends less in total than the client of the large body."""
    app, connections = App(), limited()
    now, loop = 100.0, asyncio.get_running_loop()
    loop.time = lambda: now  # type: ignore[method-assign]
    slow = [Client(app, connections, address) for address in (ONE, LIGHT, PROXY)]
    for client in slow:
        await client.post(1500, more=1)
    now += 3.0
    at_once = Client(app, connections, OTHER)
    await at_once.post(2000, more=1)
    assert at_once.statuses == []
    assert [client.statuses for client in slow].count([503]) == 1


@on_event_loop
async def test_bodies_that_are_being_read_do_not_keep_out_another_client_for_long() -> None:
    """Once another client is refused, the client that holds most memory gets no more of it for
    large bodies, for a while. So there is room when the other client comes again.
    """
    app, connections = App(), limited()
    now, loop = 100.0, asyncio.get_running_loop()
    loop.time = lambda: now  # type: ignore[method-assign]
    apps = []
    for size in (3000, 2000):
        apps.append(App())
        await Client(apps[-1], connections).post(size)
    other = Client(app, connections, OTHER)
    await other.post(3000)
    assert other.statuses == [503]
    apps[0].may_answer.set()
    await settle()
    again, small, third, back = (
        Client(app, connections, address) for address in (ONE, ONE, LIGHT, OTHER)
    )
    await again.post(3000)
    await small.post(100)
    await third.post(200)
    now += 1.0
    await back.post(3000)
    assert (again.statuses, small.statuses, third.statuses, back.statuses) == ([503], [], [], [])
    apps[1].may_answer.set()
    app.may_answer.set()
    await settle()
    now += 2.0
    later = Client(app, connections)
    await later.post(3000)
    assert (later.statuses, back.statuses) == ([200], [200])
    assert connections.request_bytes == 0


@on_event_loop
async def test_several_clients_that_hold_the_memory_make_room_for_another_client() -> None:
    """Each of the three holds a third of the memory, and sends again as soon as it is answered."""
    connections = limited()
    apps = {address: App() for address in (ONE, LIGHT, "10.0.0.5")}
    for address, app in apps.items():
        await Client(app, connections, address).post(1600)
    refused = Client(App(), connections, OTHER)
    await refused.post(1200)
    for app in apps.values():
        app.may_answer.set()
    await settle()
    again = [Client(App(), connections, address) for address in apps]
    for client in again:
        await client.post(1600)
    back = Client(App(), connections, OTHER)
    await back.post(1200)
    assert [client.statuses for client in (refused, *again, back)] == [*[[503]] * 4, []]


@on_event_loop
async def test_earlier_requests_are_answered_before_a_pipelined_body_is_refused() -> None:
    """The application gives the refusal, and so logs it."""
    app, connections = App(), limited(10 * ROOM)
    behind, other, small = (Client(app, connections) for _ in range(3))
    await behind.send(READY)
    await behind.post(27_000, more=1)
    await other.post(20_000, more=1)
    await small.post(10_000)
    # The head of the refused request still counts.
    assert 30_000 < connections.request_bytes < 30_000 + 5_000
    app.may_answer.set()
    await settle()
    assert behind.statuses == [200, 503]
    assert app.refused == [503]
    assert small.statuses == [200]
    await other.send(b"x")
    assert connections.request_bytes == 0


@on_event_loop
async def test_pipelined_requests_have_at_most_an_eighth_of_the_room() -> None:
    """Even if more room is free. No other request is refused for them, however large it is."""
    app, connections = App(), limited(10 * ROOM)
    large, behind = Client(app, connections), Client(app, connections)
    await large.post(40_000, more=1)
    await behind.send(READY)
    await behind.post(10)
    await behind.post(10)
    app.may_answer.set()
    await large.send(b"x")
    assert (large.statuses, behind.statuses) == ([200], [200, 200, 503])
    assert connections.request_bytes == 0


@on_event_loop
async def test_pipelined_requests_do_not_keep_out_a_batch() -> None:
    """However many connections have such requests behind an answer that is not taken."""
    app, connections = App(), limited(12 << 20)
    held = [Client(app, connections) for _ in range(100)]
    for client in held:
        await client.send(READY + HEAD + b"Content-Length: 60000\r\n\r\n" + bytes(60_000))
    batch = Client(app, connections, OTHER)
    await batch.post(8 << 20)
    app.may_answer.set()
    await settle()
    assert batch.statuses == [200]


@pytest.mark.parametrize(
    "waiting",
    [
        HEAD + b"Content-Length: 1048576\r\n\r\n" + bytes(1 << 20),
        (HEAD + b"A: %b\r\n" % (15_000 * b"a") + b"\r\n") * 16,
        (HEAD + b"A:\r\n" * 98 + b"\r\n") * 16,
        READY * 16,
    ],
    ids=["body", "long heads", "many fields", "short heads"],
)
@on_event_loop
async def test_pipelined_requests_of_all_connections_are_bounded(waiting: bytes) -> None:
    """A request beyond the bound is refused, and no more of it is read."""
    app, connections = App(), limited(12 << 20)
    clients, counts = [Client(app, connections) for _ in range(80)], []
    for client in clients:
        client.protocol.data_received(READY + waiting)
        counts.append(connections.request_bytes / (1 << 20))
    assert max(counts) <= 1.5
    assert counts[-1] > 0.9
    for client in clients:
        client.protocol.connection_lost(None)
    assert connections.request_bytes == 0


@on_event_loop
async def test_a_request_is_not_called_malformed_because_memory_is_short() -> None:
    """The client may send it again later."""
    connections = limited()
    client = Client(App(), connections)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "take", Mock(side_effect=MemoryError))
        await client.post(100)
    assert client.statuses == [503]


@on_event_loop
async def test_a_refused_body_is_freed_at_once() -> None:
    """Even if the application has not asked for the body; it gets the refusal when it asks."""
    app, connections = App(), limited()
    app.may_read.clear()
    large, small = Client(app, connections), Client(app, connections)
    await large.post(5000, more=1)
    await small.post(2000)
    assert large.protocol.cycle.body == b""
    app.may_read.set()
    app.may_answer.set()
    await settle()
    assert (large.statuses, small.statuses) == ([503], [200])


@on_event_loop
async def test_a_request_holds_no_memory_while_its_answer_is_not_taken() -> None:
    """Neither for a body that was read, nor for an unread one, nor for bytes that arrive later."""
    app, connections = App(), limited()
    read, later = Client(app, connections), Client(PlainTextResponse(""), connections)
    for client in (read, later):
        client.protocol.pause_writing()
    await read.post(4000)
    await later.send(HEAD + b"Content-Length: 1500\r\n\r\n" + bytes(1000))
    counts = [connections.request_bytes]
    app.may_answer.set()
    await settle()
    await later.send(bytes(500))
    counts.append(connections.request_bytes)
    kept = bytes(later.protocol.cycle.body)
    for client in (read, later):
        client.protocol.resume_writing()
    await settle()
    assert (read.statuses, later.statuses) == ([200], [200])
    assert counts == [4000, 0]
    assert kept == b""


@on_event_loop
async def test_the_memory_of_a_request_is_freed_if_the_application_fails() -> None:
    """The bytes that the application has read count until it fails."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise ZeroDivisionError

    connections = limited()
    client = Client(fails, connections)
    client.protocol.data_received(HEAD + b"Content-Length: 2000\r\n\r\n" + bytes(1000))
    assert connections.request_bytes == 1000
    await settle()
    assert connections.request_bytes == 0


@on_event_loop
async def test_a_request_that_is_answered_early_no_longer_counts() -> None:
    """The rest of its body is dropped when it arrives."""
    connections = limited()
    client = Client(PlainTextResponse(""), connections)
    await client.post(0, more=3000)
    await client.send(bytes(2000))
    assert connections.request_bytes == 0
    await client.send(bytes(1000) + READY)
    assert client.statuses == [200, 200]


@pytest.mark.parametrize(
    ("head", "held"), [(READY[:-2], 36), (HEAD, 42)], ids=["GET", "a single picture"]
)
@on_event_loop
async def test_bodies_that_wait_for_the_application_are_bounded(head: bytes, held: int) -> None:
    """All connections together have one bound; no body is refused as long as there is room."""
    size = 1 << 18
    app, connections = App(), limited(12 << 20)
    app.may_read.clear()
    large = [Client(app, connections) for _ in range(80)]
    small = [Client(app, connections) for _ in range(9)]
    for client in large:
        await client.send(head + b"Content-Length: %d\r\n\r\n" % (2 * size) + bytes(size))
    for client in small:
        await client.send(head + b"Content-Length: 5000\r\n\r\n" + bytes(5000))
    assert held * size < connections.request_bytes <= 12 << 20
    app.may_read.set()
    app.may_answer.set()
    await settle()
    assert [client.statuses for client in large] == held * [[]] + (80 - held) * [[503]]
    assert [client.statuses for client in small] == 9 * [[200]]


def test_a_request_without_room_gets_503_with_retry_after(stripe_model: Path) -> None:
    """On every route, as long as another client's body is arriving."""
    headers = {"content-type": "application/json"}
    with serving(model_path=stripe_model, **LIMITS) as address, httpx2.Client() as client:
        where = urlsplit(address)
        model = client.get(f"{address}/model").json()["name"]
        held = ExitStack()

        def status(path: str, size: int) -> tuple[int, str | None]:
            kind = {"content-type": "image/png"} if path == "/predict" else headers
            answer = client.post(address + path, content=bytes(size), headers=kind)
            return answer.status_code, answer.headers.get("retry-after")

        def has_no_room() -> bool:
            slow = held.enter_context(socket.create_connection((where.hostname, where.port)))
            slow.sendall(UPLOAD + bytes(11_000))  # these bytes may arrive after the next request
            return status("/predict", 14_000) == (503, "1")

        with held:
            until(has_no_room, "the room is taken")
            for path in ("/predict/batch", f"/v2/models/{model}/infer"):
                assert status(path, 14_000) == (503, "1"), path
        until(lambda: status("/predict", 14_000)[0] == 415, "the room is free again")


def test_clients_that_hold_all_the_room_cannot_keep_others_out(stripe_model: Path) -> None:
    """The largest unfinished body is refused, and counted as overloaded. Other requests go on."""
    headers = {"content-type": "image/png"}
    with serving(model_path=stripe_model, **LIMITS) as address, ExitStack() as stack:
        where = urlsplit(address)
        largest, other = (
            stack.enter_context(socket.create_connection((where.hostname, where.port), 30))
            for _ in range(2)
        )
        largest.sendall(UPLOAD + bytes(15_000))
        other.sendall(UPLOAD + bytes(9_000))
        assert largest.recv(65536).startswith(b"HTTP/1.1 503 ")
        answer = httpx2.post(
            f"{address}/predict", content=stripes.picture("ab"), headers=headers, timeout=30
        )
        assert (answer.status_code, answer.json()["text"]) == (200, "ab")
        counted = 'requests_total{reason="overloaded",route="/predict",status="503"} 1.0'
        assert counted in httpx2.get(f"{address}/metrics", timeout=30).text
        other.sendall(bytes(7_000))
        assert other.recv(65536).startswith(b"HTTP/1.1 415 ")


def test_max_bodies_bytes_must_have_room_for_every_allowed_request() -> None:
    """A smaller value would always refuse some that the limits of a batch or a picture allow."""
    with pytest.raises(ValidationError, match="at least OCR_MAX_BATCH_BYTES, which is 2000"):
        Settings(max_upload_bytes=1, max_batch_bytes=2000, max_bodies_bytes=1999)
    with pytest.raises(ValidationError, match=r"1\.5 × OCR_MAX_UPLOAD_BYTES, which is 3000"):
        Settings(max_upload_bytes=2000, max_batch_bytes=2000, max_bodies_bytes=2999)
    with pytest.raises(ValidationError, match="max_bodies_bytes"):
        Settings(max_batch_bytes=1 << 30)
