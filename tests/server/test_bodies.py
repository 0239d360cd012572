"""How much memory requests take together, and which is refused where there is no room."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
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
"""In bytes. An eighth is kept for bodies of at most 100."""

ONE, OTHER, LIGHT, PROXY = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"

LIMITS = {"max_upload_bytes": 16_000, "max_batch_bytes": 20_000, "max_bodies_bytes": 24_000}
UPLOAD = HEAD + b"Content-Length: 16000\r\n\r\n"


class Reading:
    """An application that waits for `asks`, reads the body, and answers after `end`."""

    def __init__(self) -> None:
        self.asks, self.end = asyncio.Event(), asyncio.Event()
        self.asks.set()
        self.refused: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        answer: ASGIApp = PlainTextResponse("")
        await self.asks.wait()
        try:
            while (await receive()).get("more_body", False):
                pass
            await self.end.wait()
        except ProblemError as error:
            self.refused.append(error.kind.status)
            answer = ProblemResponse(error.kind, error.detail)
        await answer(scope, receive, send)


class Client:
    """A connection without a socket."""

    def __init__(self, app: ASGIApp, connections: Connections, address: str = ONE) -> None:
        self.protocol, self.transport = unconnected(app, connections), transport(address)
        self.protocol.connection_made(self.transport)

    async def send(self, data: bytes) -> None:
        """Sends, and waits until the application has done what it does for that."""
        self.protocol.data_received(data)
        await settled()

    async def post(self, size: int, more: int = 0, fields: bytes = b"", head: bytes = HEAD) -> None:
        """Sends the head of a request, and so many bytes of its body, to which more belong."""
        await self.send(head + fields + b"Content-Length: %d\r\n\r\n" % (size + more))
        await self.send(bytes(size))

    @property
    def heard(self) -> list[int]:
        """The statuses of its answers."""
        written = (call.args[0] for call in self.transport.write.call_args_list)
        return [status for status, _ in parsed(b"".join(written))]


async def settled() -> None:
    """When the event loop has come round some times."""
    for _ in range(10):
        await asyncio.sleep(0)


def bounded(max_bytes: int = ROOM) -> Connections:
    """Connections whose requests take so many bytes at most."""
    settings = Settings(
        max_upload_bytes=max_bytes // 2, max_batch_bytes=max_bytes, max_bodies_bytes=max_bytes
    )
    return Connections(settings, 199)


def on_a_loop(test: Callable[..., Coroutine[object, object, None]]) -> Callable[..., None]:
    """Runs a test on an event loop."""

    @wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@on_a_loop
async def test_bodies_take_no_more_together_until_they_are_answered() -> None:
    """What does not fit beside a request that waits is refused; once that has ended, it fits."""
    app, connections = Reading(), bounded()
    first, second = Client(app, connections), Client(app, connections)
    await first.post(4000)
    await second.post(4000)
    assert (first.heard, second.heard) == ([], [503])
    app.end.set()
    await settled()
    third = Client(app, connections)
    await third.post(4000)
    assert (first.heard, third.heard) == ([200], [200])
    assert connections.request_bytes == 0


@on_a_loop
async def test_a_body_counts_until_it_is_read_whether_its_client_waits_or_not() -> None:
    """A client that closes its connection has no more room at once."""
    app, connections = Reading(), bounded()
    gone, second, third = (Client(app, connections) for _ in range(3))
    await gone.post(4000)
    gone.protocol.connection_lost(None)
    await second.post(4000)
    app.end.set()
    await settled()
    await third.post(4000)
    assert (second.heard, third.heard) == ([503], [200])
    assert connections.request_bytes == 0


@on_a_loop
async def test_large_bodies_leave_room_for_small_ones() -> None:
    """Those that wait to be answered cannot keep out others; a large one alone has all the room."""
    app, connections = Reading(), bounded()
    clients = [Client(app, connections) for _ in range(5)]
    for client, size in zip(clients, (4000, 2400, 1600, 100, 100), strict=True):
        await client.post(size)
    app.end.set()
    await settled()
    assert [client.heard for client in clients] == [[200], [503], [200], [200], [200]]
    alone = Client(app, connections)
    await alone.post(ROOM)
    assert alone.heard == [200]


@pytest.mark.parametrize("path", [b"/predict/batch", b"/v2/models/captcha/infer"])
@on_a_loop
async def test_batches_leave_room_for_single_pictures(path: bytes) -> None:
    """They take seconds to be read, whoever sends them; one alone has all the room."""
    app, connections = Reading(), bounded()
    head = HEAD.replace(b"/predict", path)
    batches = [Client(app, connections, f"10.0.1.{number}") for number in range(3)]
    for batch in batches:
        await batch.post(1700, head=head)
    single = Client(app, connections, OTHER)
    await single.post(1000)
    app.end.set()
    await settled()
    assert [batch.heard for batch in batches] == [[200], [200], [503]]
    assert single.heard == [200]
    alone = Client(app, connections)
    await alone.post(ROOM, head=head)
    assert alone.heard == [200]


@on_a_loop
async def test_the_largest_that_is_arriving_is_given_up_for_a_smaller_one() -> None:
    """Its bytes are free at once, and only once; what it sends on is dropped."""
    app, connections = Reading(), bounded()
    large, other, small = (Client(app, connections) for _ in range(3))
    await large.post(3000, more=1)
    await other.post(2000, more=1)
    await small.post(1000)
    assert (large.heard, other.heard, small.heard) == ([503], [], [])
    assert connections.request_bytes == 3000
    await large.send(b"x")
    assert connections.request_bytes == 3000
    app.end.set()
    await other.send(b"x")
    assert (other.heard, small.heard) == ([200], [200])
    assert connections.request_bytes == 0


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "behind a proxy"])
@on_a_loop
async def test_many_bodies_of_one_client_leave_room_for_others(proxied: bool) -> None:
    """Where they do not end, and each is smaller than that of another client."""
    app, connections = Reading(), bounded()

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
    assert own.heard == [503]
    assert not any(client.heard for client in held)
    other = await post(OTHER, 600, more=0)
    assert (other.heard, light.heard) == ([], [])
    assert [client.heard for client in held].count([503]) == 2, "500 bytes are too few"


@on_a_loop
async def test_a_client_with_many_bodies_has_none_of_another_given_up() -> None:
    """However large that is, where all of them together are larger."""
    app, connections = Reading(), bounded()
    held = [Client(app, connections) for _ in range(10)]
    for client in held:
        await client.post(400, more=200)
    other = Client(app, connections, OTHER)
    await other.post(1500, more=1)
    await held[0].send(bytes(150))
    assert (held[0].heard, other.heard) == ([503], [])


@on_a_loop
async def test_bodies_of_one_client_that_are_being_read_keep_out_no_other_for_long() -> None:
    """As long as the other comes again, and the first has no place for a large one meanwhile."""
    app, connections = Reading(), bounded()
    now, loop = 100.0, asyncio.get_running_loop()
    loop.time = lambda: now  # type: ignore[method-assign]
    ends = []
    for size in (3000, 2000):
        ends.append(Reading())
        await Client(ends[-1], connections).post(size)
    other = Client(app, connections, OTHER)
    await other.post(3000)
    assert other.heard == [503]
    ends[0].end.set()
    await settled()
    again, small, third, back = (
        Client(app, connections, address) for address in (ONE, ONE, LIGHT, OTHER)
    )
    await again.post(3000)
    await small.post(100)
    await third.post(200)
    now += 1.0
    await back.post(3000)
    assert (again.heard, small.heard, third.heard, back.heard) == ([503], [], [], [])
    ends[1].end.set()
    app.end.set()
    await settled()
    now += 2.0
    later = Client(app, connections)
    await later.post(3000)
    assert (later.heard, back.heard) == ([200], [200])
    assert connections.request_bytes == 0


@on_a_loop
async def test_answers_that_are_due_come_before_the_refusal() -> None:
    """Where what is given up has come behind other requests. The application answers, and logs."""
    app, connections = Reading(), bounded(10 * ROOM)
    behind, other, small = (Client(app, connections) for _ in range(3))
    await behind.send(READY)
    await behind.post(27_000, more=1)
    await other.post(20_000, more=1)
    await small.post(10_000)
    assert 30_000 < connections.request_bytes < 30_000 + 5_000  # what waits has its head still
    app.end.set()
    await settled()
    assert behind.heard == [200, 503]
    assert app.refused == [503]
    assert small.heard == [200]
    await other.send(b"x")
    assert connections.request_bytes == 0


@on_a_loop
async def test_what_waits_behind_others_has_an_eighth_of_the_room() -> None:
    """Whatever else is there. It has no other given up, however large that is."""
    app, connections = Reading(), bounded(10 * ROOM)
    large, behind = Client(app, connections), Client(app, connections)
    await large.post(40_000, more=1)
    await behind.send(READY)
    await behind.post(10)
    await behind.post(10)
    app.end.set()
    await large.send(b"x")
    assert (large.heard, behind.heard) == ([200], [200, 200, 503])
    assert connections.request_bytes == 0


@on_a_loop
async def test_what_waits_behind_answers_that_are_not_taken_keeps_out_no_batch() -> None:
    """However many connections it waits on."""
    app, connections = Reading(), bounded(12 << 20)
    held = [Client(app, connections) for _ in range(100)]
    for client in held:
        await client.send(READY + HEAD + b"Content-Length: 60000\r\n\r\n" + bytes(60_000))
    batch = Client(app, connections, OTHER)
    await batch.post(8 << 20)
    app.end.set()
    await settled()
    assert batch.heard == [200]


@pytest.mark.parametrize(
    "waiting",
    [
        HEAD + b"Content-Length: 1048576\r\n\r\n" + bytes(1 << 20),
        (HEAD + b"A: %b\r\n" % (15_000 * b"a") + b"\r\n") * 16,
        (HEAD + b"A:\r\n" * 98 + b"\r\n") * 16,
        READY * 16,
    ],
    ids=["body", "long heads", "many fields", "short"],
)
@on_a_loop
async def test_requests_behind_others_are_bounded(waiting: bytes) -> None:
    """Those of all connections together; one too many is refused, and none is read on."""
    app, connections = Reading(), bounded(12 << 20)
    clients, counts = [Client(app, connections) for _ in range(80)], []
    for client in clients:
        client.protocol.data_received(READY + waiting)
        counts.append(connections.request_bytes / (1 << 20))
    assert max(counts) <= 1.5
    assert counts[-1] > 0.9
    for client in clients:
        client.protocol.connection_lost(None)
    assert connections.request_bytes == 0


@on_a_loop
async def test_what_is_given_up_is_kept_no_longer() -> None:
    """Where the application has not asked for it yet, and hears later that it is refused."""
    app, connections = Reading(), bounded()
    app.asks.clear()
    large, small = Client(app, connections), Client(app, connections)
    await large.post(5000, more=1)
    await small.post(2000)
    assert large.protocol.cycle.body == b""
    app.asks.set()
    app.end.set()
    await settled()
    assert (large.heard, small.heard) == ([503], [200])


@on_a_loop
async def test_who_takes_no_answers_holds_no_room() -> None:
    """Neither with what has been read, nor with what has not, nor with what comes later."""
    app, connections = Reading(), bounded()
    read, later = Client(app, connections), Client(PlainTextResponse(""), connections)
    for client in (read, later):
        client.protocol.pause_writing()
    await read.post(4000)
    await later.send(HEAD + b"Content-Length: 1500\r\n\r\n" + bytes(1000))
    counts = [connections.request_bytes]
    app.end.set()
    await settled()
    await later.send(bytes(500))
    counts.append(connections.request_bytes)
    kept = bytes(later.protocol.cycle.body)
    for client in (read, later):
        client.protocol.resume_writing()
    await settled()
    assert (read.heard, later.heard) == ([200], [200])
    assert counts == [4000, 0]
    assert kept == b""


@on_a_loop
async def test_an_application_that_fails_leaves_nothing() -> None:
    """What it has read counts until then."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise ZeroDivisionError

    connections = bounded()
    client = Client(fails, connections)
    client.protocol.data_received(HEAD + b"Content-Length: 2000\r\n\r\n" + bytes(1000))
    assert connections.request_bytes == 1000
    await settled()
    assert connections.request_bytes == 0


@on_a_loop
async def test_what_is_answered_early_counts_no_more() -> None:
    """The rest of its body is dropped when it comes."""
    connections = bounded()
    client = Client(PlainTextResponse(""), connections)
    await client.post(0, more=3000)
    await client.send(bytes(2000))
    assert connections.request_bytes == 0
    await client.send(bytes(1000) + READY)
    assert client.heard == [200, 200]


@pytest.mark.parametrize(
    ("head", "held"), [(READY[:-2], 36), (HEAD, 42)], ids=["GET", "a single picture"]
)
@on_a_loop
async def test_bodies_that_are_not_asked_for_are_bounded(head: bytes, held: int) -> None:
    """Those of all connections together; none is refused as long as there is room."""
    size = 1 << 18
    app, connections = Reading(), bounded(12 << 20)
    app.asks.clear()
    large = [Client(app, connections) for _ in range(80)]
    small = [Client(app, connections) for _ in range(9)]
    for client in large:
        await client.send(head + b"Content-Length: %d\r\n\r\n" % (2 * size) + bytes(size))
    for client in small:
        await client.send(head + b"Content-Length: 5000\r\n\r\n" + bytes(5000))
    assert held * size < connections.request_bytes <= 12 << 20
    app.asks.set()
    app.end.set()
    await settled()
    assert [client.heard for client in large] == held * [[]] + (80 - held) * [[503]]
    assert [client.heard for client in small] == 9 * [[200]]


def test_a_request_without_room_is_told_when_to_come_back(stripe_model: Path) -> None:
    """Wherever it is sent, 503 with Retry-After, as long as another's body is on its way."""
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
            slow.sendall(UPLOAD + bytes(11_000))  # which may come too late
            return status("/predict", 14_000) == (503, "1")

        with held:
            until(has_no_room, "the room is taken")
            for path in ("/predict/batch", f"/v2/models/{model}/infer"):
                assert status(path, 14_000) == (503, "1"), path
        until(lambda: status("/predict", 14_000)[0] == 415, "the slow one has left its room")


def test_who_holds_all_the_room_cannot_keep_others_out(stripe_model: Path) -> None:
    """The largest body that does not end is refused, and counted as that; the others go on."""
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


def test_the_bound_holds_every_request() -> None:
    """Less would refuse for ever what the limits of a batch, or of a picture, allow."""
    with pytest.raises(ValidationError, match="at least OCR_MAX_BATCH_BYTES, which is 2000"):
        Settings(max_upload_bytes=1, max_batch_bytes=2000, max_bodies_bytes=1999)
    with pytest.raises(ValidationError, match=r"1\.5 × OCR_MAX_UPLOAD_BYTES, which is 3000"):
        Settings(max_upload_bytes=2000, max_batch_bytes=2000, max_bodies_bytes=2999)
    with pytest.raises(ValidationError, match="max_bodies_bytes"):
        Settings(max_batch_bytes=1 << 30)
