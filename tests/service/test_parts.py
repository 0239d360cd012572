"""What is read of a request part by part."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from service.engine import Engine
from service.metrics import Metrics
from service.ocr.recognizer import Recognizer
from service.pool import OverloadedError
from service.settings import Settings
from tests.service import pools

Test = Callable[[Engine], Coroutine[Any, Any, None]]


@pytest.fixture
def run(recognizer: Recognizer, settings: Settings) -> Callable[[Test], None]:
    """Runs a test with an engine of two threads."""

    def run(test: Test) -> None:
        async def with_engine() -> None:
            engine = Engine(recognizer, settings, Metrics())
            try:
                await test(engine)
            finally:
                engine.pool.close()

        pools.run(with_engine)

    return run


def test_parts_overlap_and_keep_their_order(run: Callable[[Test], None]) -> None:
    """One more than there are threads is on its way, so that no thread waits for the next."""

    async def test(engine: Engine) -> None:
        on_their_way: set[int] = set()
        most = 0

        async def read(part: Sequence[int]) -> Sequence[int]:
            nonlocal most
            on_their_way.add(part[0])
            most = max(most, len(on_their_way))
            await asyncio.sleep(0.001 * (part[0] % 7))
            on_their_way.remove(part[0])
            return [10 * item for item in part]

        assert await engine.in_parts(range(50), read) == list(range(0, 500, 10))
        assert most == 3

    run(test)


def test_the_first_failure_ends_the_rest(run: Callable[[Test], None]) -> None:
    """It is what the client is told; nothing more is begun, and what was is given up."""

    async def test(engine: Engine) -> None:
        begun, ended = [], []

        async def read(part: Sequence[int]) -> Sequence[int]:
            begun.append(part[0])
            await asyncio.sleep(0 if part[0] == 4 else 1)
            if part[0] == 4:
                raise OverloadedError(7)
            ended.append(part[0])
            return part

        with pytest.raises(OverloadedError) as failure:
            await engine.in_parts(range(64), read)
        assert failure.value.retry_seconds == 7
        assert (begun, ended) == ([0, 4, 8], [])

    run(test)
