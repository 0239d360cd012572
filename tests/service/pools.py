"""Runs tests of a pool, and keeps its threads busy."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from service.pool import Pool


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def blocked(pool: Pool, count: int) -> tuple[threading.Event, list[Awaitable[int]]]:
    """So many pieces of work that end when the event is set."""
    release = threading.Event()

    def work() -> int:
        release.wait(20)
        return threading.get_ident()

    return release, [asyncio.ensure_future(pool.run(work)) for _ in range(count)]
