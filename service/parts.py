"""Reads many pictures of one request a few at a time, so that others have their turn between."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import TypeVar

from service.pool import Pool
from service.reader import AT_ONCE

P = TypeVar("P")
A = TypeVar("A")


async def in_parts(
    pool: Pool,
    pictures: Sequence[P],
    read: Callable[[Sequence[P]], Awaitable[Sequence[A]]],
    ahead: bool = False,
) -> list[A]:
    """The answers of `read`, which is given a few of the pictures at a time, in their order.

    Args:
        pool: that `read` has threads of.
        ahead: whether one part more than there are threads may be on its way, so that none of them
            has to wait for the next; only if it need not wait for long.

    Raises:
        OverloadedError: the first of them would wait too long.
        Exception: the first that `read` raises; what it was doing besides is given up.
    """
    pool.admit()
    size = min(AT_ONCE, math.ceil(len(pictures) / pool.threads))
    starts = range(0, len(pictures), size)
    ahead = ahead and pool.soon_done(size)
    remaining = iter(starts)
    answered: dict[int, Sequence[A]] = {}

    async def run() -> None:
        for start in remaining:
            answered[start] = await read(pictures[start : start + size])

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(pool.threads + ahead, len(starts))):
                group.create_task(run())
                await asyncio.sleep(0)  # What it does here before it waits keeps others waiting.
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return list(chain.from_iterable(answered[start] for start in starts))
