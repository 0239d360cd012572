"""Refused requests are freed at once, without the garbage collector."""

import asyncio
import gc
import json
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request as HttpRequest
from starlette.types import Message

from service.api.uploads import read_pictures
from tests.api.bad_items import Request, bad_items
from tests.server.process import until

T = TypeVar("T")

_BYTES = 1 << 20
_KINDS = dict(bad_items(_BYTES, "stripes"))


@pytest.mark.parametrize("request_", _KINDS.values(), ids=_KINDS.keys())
def test_a_refused_request_leaves_nothing_in_memory(request_: Request, client: TestClient) -> None:
    """The picture, its text and the error that says what is wrong are freed."""
    path, headers, body = request_

    def post() -> None:
        answer = client.post(path, headers=headers, content=body)
        assert "problem" in answer.text or "error" in answer.text

    post()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(4):
            post()
        # The thread that answered may free the last picture a moment later.
        until(lambda: tracemalloc.get_traced_memory()[0] < _BYTES, "nothing is kept")
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.parametrize("request_", _KINDS.values(), ids=_KINDS.keys())
def test_a_refused_request_is_freed_before_the_answer(
    request_: Request, client: TestClient
) -> None:
    """A client may take minutes to read the answer."""
    path, headers, body = request_
    fields = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http", "method": "POST", "path": path, "query_string": b"", "headers": fields,
        "client": None,
    }  # fmt: skip
    statuses = []

    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(bytearray(body)), "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
            # The thread that answered may free the last picture a moment later.
            until(lambda: tracemalloc.get_traced_memory()[0] < _BYTES, "nothing is kept", 10)

    async def ask() -> None:
        await client.app({**scope, "headers": [*fields]}, receive, send)

    assert client.portal is not None
    client.portal.call(ask)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        client.portal.call(ask)
    finally:
        tracemalloc.stop()
        gc.enable()
    assert len(statuses) == 2


@pytest.mark.parametrize("escaped", [False, True])
def test_a_character_beyond_ascii_takes_no_more_than_its_bytes(escaped: bool) -> None:
    """A Python string with one such character takes four bytes for each letter."""
    body = json.dumps({"images": ["😀" + "A" * _BYTES]}, ensure_ascii=escaped).encode()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def at_once(work: Callable[[], T], /) -> T:
        return work()

    headers = [(b"content-type", b"application/json")]
    request = HttpRequest({"type": "http", "method": "POST", "headers": headers}, receive)
    tracemalloc.start()
    try:
        (problem,) = asyncio.run(read_pictures(request, 1, 2 * _BYTES, _BYTES, at_once))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "not base64" in str(problem)
    assert peak < 4 * _BYTES
