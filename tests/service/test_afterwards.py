"""What is done about requests once they have been answered."""

import asyncio
from functools import partial

import pytest

from service.observability.afterwards import Afterwards


def test_it_is_done_in_a_row() -> None:
    """When there is enough to do, in the next turn, and in its order."""

    async def test() -> None:
        afterwards, done = Afterwards(), []
        for number in range(16):
            assert done == []
            afterwards.add(partial(done.append, number))
        await asyncio.sleep(0)
        assert done == [*range(16)]

    asyncio.run(test())


def test_nothing_waits_for_long() -> None:
    """However little there is to do, and whatever there was before; each is done once."""

    async def test() -> None:
        afterwards, done = Afterwards(), []
        for count in (1, 17, 2):
            for number in range(count):
                afterwards.add(partial(done.append, number))
            async with asyncio.timeout(10):
                while len(done) < count:
                    await asyncio.sleep(0.01)
            assert done == [*range(count)]
            done.clear()
        await asyncio.sleep(0.1)
        assert done == []

    asyncio.run(test())


def test_it_can_be_done_at_once() -> None:
    """Before somebody asks for what it counts, and at the end."""

    async def test() -> None:
        afterwards, done = Afterwards(), []
        afterwards.add(partial(done.append, "a"))
        afterwards.run()
        assert done == ["a"]
        afterwards.run()
        await asyncio.sleep(0.1)
        assert done == ["a"]

    asyncio.run(test())


def test_a_failure_harms_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged."""

    async def test() -> None:
        afterwards, done = Afterwards(), []
        afterwards.add(lambda: 1 // 0)  # type: ignore[arg-type,return-value]
        afterwards.add(partial(done.append, "a"))
        afterwards.run()
        assert done == ["a"]

    asyncio.run(test())
    assert "ZeroDivisionError" in caplog.text
