import asyncio
import socket
import time
import tracemalloc
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from pydantic import ValidationError
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from service.api.errors import ProblemError
from service.api.middleware.body_limit import BodyLimit
from service.api.uploads import read_body
from service.settings import Settings
from tests import stripes
from tests.server.process import serving

_UPLOAD = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 16000\r\n\r\n"
)
_CHUNK = b"\x89P"


class Reading:
    """An application that receives once, and then waits for its `end`."""

    def __init__(self) -> None:
        self.end = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        await receive()
        await self.end.wait()


async def unheard(message: Message) -> None:
    """Sends nowhere."""


def test_bodies_take_no_more_together_until_they_are_answered() -> None:
    """What does not fit beside a request that waits is refused; once that has ended, it fits."""

    async def body() -> Message:
        return {"type": "http.request", "body": bytes(60), "more_body": False}

    async def check() -> None:
        app = Reading()
        limit = BodyLimit(app, max_bytes=100)
        first = asyncio.create_task(limit({"type": "http"}, body, unheard))
        await asyncio.sleep(0)
        with pytest.raises(ProblemError, match="Too many bytes"):
            await limit({"type": "http"}, body, unheard)
        app.end.set()
        await first
        await limit({"type": "http"}, body, unheard)

    asyncio.run(check())


def test_large_bodies_leave_room_for_small_ones() -> None:
    """Those that wait to be answered cannot keep out others; a large one alone has all the room."""

    async def check() -> None:
        app = Reading()
        limit = BodyLimit(app, max_bytes=6400)

        async def send(size: int) -> None:
            async def body() -> Message:
                return {"type": "http.request", "body": bytes(size), "more_body": False}

            await limit({"type": "http"}, body, unheard)

        tasks = [asyncio.create_task(send(size)) for size in (4000, 2400, 1600, 100, 100)]
        await asyncio.sleep(0)
        refused = [task.done() and isinstance(task.exception(), ProblemError) for task in tasks]
        assert refused == [False, True, False, False, False]
        app.end.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await send(6400)

    asyncio.run(check())


def test_many_bodies_of_one_client_leave_room_for_others() -> None:
    """Where they do not end, and each is smaller than that of another client."""

    async def check() -> None:
        app = Reading()
        limit = BodyLimit(app, max_bytes=6400)

        async def send(address: str, size: int, more: bool) -> None:
            parts = [{"type": "http.request", "body": bytes(size), "more_body": more}]

            async def body() -> Message:
                if not parts:
                    await asyncio.Event().wait()
                return parts.pop()

            async def read(scope: Scope, receive: Receive, send: Send) -> None:
                while (await receive())["more_body"]:
                    pass
                await app.end.wait()

            limit._app = read
            await limit({"type": "http", "client": (address, 1)}, body, unheard)

        held = [asyncio.create_task(send("one", 500, True)) for _ in range(11)]
        await asyncio.sleep(0)
        own = asyncio.create_task(send("one", 600, False))
        other = asyncio.create_task(send("two", 600, False))
        for _ in range(5):
            await asyncio.sleep(0)
        assert isinstance(own.exception(), ProblemError)
        assert not other.done()
        assert sum(task.done() for task in held) == 1
        app.end.set()
        await other
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)

    asyncio.run(check())


def test_a_request_without_room_is_told_when_to_come_back(stripe_model: Path) -> None:
    """Wherever it is sent, 503 with Retry-After, as long as another's body is on its way."""
    limits = {"max_upload_bytes": 16_000, "max_batch_bytes": 20_000, "max_bodies_bytes": 24_000}
    with serving(model_path=stripe_model, **limits) as address, httpx2.Client() as client:
        where = urlsplit(address)
        model = client.get(f"{address}/model").json()["name"]
        with socket.create_connection((where.hostname, where.port)) as slow:
            slow.sendall(_UPLOAD + bytes(11_000))
            time.sleep(0.2)
            for path in ("/predict", "/predict/batch", f"/v2/models/{model}/infer"):
                kind = "image/png" if path == "/predict" else "application/json"
                headers = {"content-type": kind}
                answer = client.post(address + path, content=bytes(14_000), headers=headers)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
        for _ in range(100):
            answer = client.post(f"{address}/predict", content=bytes(10_000), headers=headers)
            if answer.status_code != 503:
                break
            time.sleep(0.1)
        assert answer.status_code == 422, "the slow one has gone, and left its room"


def test_who_holds_all_the_room_cannot_keep_others_out(stripe_model: Path) -> None:
    """The largest body that does not end is refused for the picture of a good client."""
    limits = {"max_upload_bytes": 16_000, "max_batch_bytes": 20_000, "max_bodies_bytes": 24_000}
    picture = stripes.picture("ab")
    with serving(model_path=stripe_model, **limits) as address, ExitStack() as stack:
        where = urlsplit(address)
        held = []
        for size in (15_000, 9_000 - len(picture) // 2):
            slow = stack.enter_context(socket.create_connection((where.hostname, where.port), 20))
            slow.sendall(_UPLOAD + bytes(size))
            held.append(slow)
        time.sleep(0.2)
        for _ in range(3):
            headers = {"content-type": "image/png"}
            answer = httpx2.post(f"{address}/predict", content=picture, headers=headers)
            assert (answer.status_code, answer.json()["text"]) == (200, "ab")
        assert held[0].recv(65536).startswith(b"HTTP/1.1 503 ")
        held[1].sendall(bytes(16_000 - 9_000 + len(picture) // 2))
        assert held[1].recv(65536).startswith(b"HTTP/1.1 415 "), "the other one goes on"


def test_the_bound_holds_every_request() -> None:
    """Less would refuse for ever what the limits of a batch, or of a picture, allow."""
    with pytest.raises(ValidationError, match="at least OCR_MAX_BATCH_BYTES, which is 2000"):
        Settings(max_upload_bytes=1, max_batch_bytes=2000, max_bodies_bytes=1999)
    with pytest.raises(ValidationError, match=r"1\.5 × OCR_MAX_UPLOAD_BYTES, which is 3000"):
        Settings(max_upload_bytes=2000, max_batch_bytes=2000, max_bodies_bytes=2999)
    with pytest.raises(ValidationError, match="max_bodies_bytes"):
        Settings(max_batch_bytes=1 << 30)


def trickled(chunks: int) -> Request:
    """A request whose body comes in so many chunks of two bytes."""
    left = chunks

    async def receive() -> Message:
        nonlocal left
        left -= 1
        # A new object each time, as a server makes them.
        return {"type": "http.request", "body": bytes(bytearray(_CHUNK)), "more_body": left > 0}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def test_a_body_in_tiny_chunks_takes_little_more_than_its_bytes() -> None:
    """Kept as they came, chunks of two bytes would take twenty times as much memory."""
    chunks = 100_000
    request = trickled(chunks)
    tracemalloc.start()
    try:
        body = asyncio.run(read_body(request, max_bytes=1 << 20))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert body == _CHUNK * chunks
    assert peak < 4 * len(body)
