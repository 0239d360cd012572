"""Work that tests give to batchers, and functions that submit it or keep threads busy."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from service.ocr.recognizer import Recognizer
from service.query_params import Defaults, Questions
from service.runtime.batcher import NOBODY, Batcher, Caller, Work
from service.runtime.predictor import Predictor

LONG = 60.0
"""A queue time in seconds, longer than any test waits."""


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def predictor_of(recognizer: Recognizer) -> Predictor:
    """A predictor with this model and the default question."""
    model = recognizer.metadata
    return Predictor(recognizer, Questions(model.alphabet, model.min_confidence, Defaults()))


def doubled(items: Sequence[int]) -> list[int]:
    return [2 * item for item in items]


def after(release: threading.Event) -> Work[int, int]:
    """Work that waits for an event, and then doubles its items."""

    def work(items: Sequence[int]) -> list[int]:
        assert release.wait(20)
        return doubled(items)

    return work


def recording_work() -> tuple[list[int], Work[int, int]]:
    """The items that work was given so far, and the work, which doubles them."""
    given: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        given.extend(items)
        return doubled(items)

    return given, work


class Clock:
    """Replaces the module `time`. Its time passes only when work takes time on it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def perf_counter(self) -> float:
        """Now, in seconds."""
        return self.seconds


def named_work(begun: list[str], name: str, clock: Clock, seconds: float = 0.0) -> Work[int, int]:
    """Work that adds its name to `begun`, and takes so many seconds on the clock."""

    def work(items: Sequence[int]) -> Sequence[int]:
        begun.append(name)
        clock.seconds += seconds
        return items

    return work


@asynccontextmanager
async def busy_threads(
    batcher: Batcher, threads: int = 1, caller: Caller = NOBODY
) -> AsyncIterator[None]:
    """Keeps so many threads busy until the block ends."""
    begun, release = threading.Semaphore(0), threading.Event()

    def work(items: Sequence[None]) -> Sequence[bool]:
        begun.release()
        return [release.wait(20) for _ in items]

    tasks = []
    for _ in range(threads):
        tasks.append(asyncio.ensure_future(submit(batcher, work, None, caller=caller)))
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
    """A task for the coroutine, which runs until it first waits."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    return task
