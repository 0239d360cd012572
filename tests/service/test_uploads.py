import asyncio
import tracemalloc

from starlette.requests import Request
from starlette.types import Message

from service.uploads import read_body

_CHUNK = b"\x89P"


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
