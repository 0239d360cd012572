"""What is read of a request part by part."""

import asyncio
from collections.abc import Sequence

import pytest

from service.parts import in_parts
from service.pool import OverloadedError, Pool
from tests.service.pools import run


def test_parts_overlap_and_keep_their_order() -> None:
    """One more than there are threads is on its way, so that no thread waits for the next."""

    async def test() -> None:
        on_their_way: set[int] = set()
        most = 0

        async def read(part: Sequence[int]) -> Sequence[int]:
            nonlocal most
            on_their_way.add(part[0])
            most = max(most, len(on_their_way))
            await asyncio.sleep(0.001 * (part[0] % 7))
            on_their_way.remove(part[0])
            return [10 * item for item in part]

        assert await in_parts(Pool(2, 4, 1.0), range(50), read) == list(range(0, 500, 10))
        assert most == 3

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
        assert (begun, ended) == ([0, 4, 8], [])

    run(test)
