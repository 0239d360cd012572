"""Work for batchers, and threads that are busy meanwhile."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from service.ocr.recognizer import Recognizer
from service.query_params import Defaults, Questions
from service.runtime.batcher import Batcher, Work
from service.runtime.predictor import Predictor

LONG = 60.0
"""A queue time that no test waits for."""


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def predictor_of(recognizer: Recognizer) -> Predictor:
    """A predictor with this model, asked as by default."""
    model = recognizer.metadata
    return Predictor(recognizer, Questions(model.alphabet, model.min_confidence, Defaults()))


def doubled(items: Sequence[int]) -> list[int]:
    return [2 * item for item in items]


def after(release: threading.Event) -> Work[int, int]:
    """Work that doubles when it is released."""

    def work(items: Sequence[int]) -> list[int]:
        assert release.wait(20)
        return doubled(items)

    return work


def recorded() -> tuple[list[int], Work[int, int]]:
    """Work that doubles, and the items that it was given so far."""
    given: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        given.extend(items)
        return doubled(items)

    return given, work


class Clock:
    """Stands in for the module `time`: it goes on only where work takes time on it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def perf_counter(self) -> float:
        """Now, in seconds."""
        return self.seconds


def noted(begun: list[str], name: str, clock: Clock, seconds: float = 0.0) -> Work[int, int]:
    """Work that takes so long on the clock, and adds a name to those that have begun."""

    def work(items: Sequence[int]) -> Sequence[int]:
        begun.append(name)
        clock.seconds += seconds
        return items

    return work


@asynccontextmanager
async def stuck(batcher: Batcher, threads: int = 1) -> AsyncIterator[None]:
    """So many threads are busy meanwhile."""
    begun, release = threading.Semaphore(0), threading.Event()

    def work(items: Sequence[None]) -> Sequence[bool]:
        begun.release()
        return [release.wait(20) for _ in items]

    tasks = []
    for _ in range(threads):
        tasks.append(asyncio.ensure_future(submit(batcher, work, None)))
        await asyncio.to_thread(begun.acquire)
    try:
        yield
    finally:
        release.set()
    await asyncio.gather(*tasks)


async def submit(batcher: Batcher, work: Work[Any, Any], item: object, **options: Any) -> Any:
    """The outcome of work for one picture."""
    (outcome,) = await batcher.submit(work, [item], **options)
    return outcome


async def begin(coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """A task that has begun to wait."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    return task
