"""Runs tests of a pool, and keeps its threads busy."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from service.runtime.batcher import Pool


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


@asynccontextmanager
async def busy(pool: Pool, pieces: int = 1) -> AsyncIterator[None]:
    """So many pieces of work go on meanwhile; what begins here has begun when they end."""
    release = threading.Event()
    work = [
        asyncio.ensure_future(pool.run(lambda: release.wait(20), pictures=1)) for _ in range(pieces)
    ]
    await asyncio.sleep(0)
    try:
        yield
        await asyncio.sleep(0)
    finally:
        release.set()
    assert all(await asyncio.gather(*work))
