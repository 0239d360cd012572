"""What is read of a request part by part."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from service.parts import in_parts
from service.pool import OverloadedError, Pool
from tests.service.pools import run


@pytest.mark.parametrize(
    ("queue_seconds", "ahead", "expected"), [(1, True, 3), (1, False, 2), (0.01, True, 2)]
)
def test_parts_overlap_and_keep_their_order(
    queue_seconds: float, ahead: bool, expected: int
) -> None:
    """As many as there are threads, and one more where it does not wait for long."""

    async def test() -> None:
        on_their_way: set[int] = set()
        most = 0

        async def read(part: Sequence[int]) -> Sequence[int]:
            nonlocal most
            on_their_way.add(part[0])
            most = max(most, len(on_their_way))
            await asyncio.sleep(0.002 + 0.001 * (part[0] % 7))
            on_their_way.remove(part[0])
            return [10 * item for item in part]

        pool = Pool(2, 4, queue_seconds)
        await pool.run(lambda: time.sleep(0.01), pictures=1)
        assert await in_parts(pool, range(50), read, ahead) == list(range(0, 500, 10))
        assert most == expected

    run(test)


@pytest.mark.parametrize("threads", [1, 2])
def test_one_request_alone_is_never_refused(threads: int) -> None:
    """However long its parts take, and whatever was read before."""

    async def test() -> None:
        pool = Pool(threads, 64, 0.01)

        async def read(part: Sequence[int]) -> Sequence[int]:
            return await pool.run(lambda: time.sleep(0.03) or part, pictures=len(part))

        for _ in range(3):
            assert await in_parts(pool, range(20), read, ahead=True) == list(range(20))

    run(test)


def test_who_decodes_lets_others_have_their_turn() -> None:
    """What one part has the event loop do is not followed by the next one's at once."""

    async def test() -> None:
        turns = 0
        at_turn = []

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def read(part: Sequence[int]) -> Sequence[int]:
            at_turn.append(turns)
            await asyncio.sleep(0.01)
            return part

        counting = asyncio.create_task(count())
        await in_parts(Pool(5, 10, 1.0), range(20), read)
        counting.cancel()
        assert len(set(at_turn)) == len(at_turn) == 5

    run(test)


def test_the_first_failure_ends_the_rest() -> None:
    """It is what the client is told; nothing more is begun, and what was is given up."""

    async def test() -> None:
        begun, ended = [], []

        async def read(part: Sequence[int]) -> Sequence[int]:
            begun.append(part[0])
            await asyncio.sleep(0 if part[0] == 4 else 1)
            if part[0] == 4:
                raise OverloadedError(7)
            ended.append(part[0])
            return part

        with pytest.raises(OverloadedError) as failure:
            await in_parts(Pool(2, 4, 1.0), range(64), read)
        assert failure.value.retry_seconds == 7
        assert (begun[:2], ended) == ([0, 4], [])
        assert len(begun) < 16

    run(test)
