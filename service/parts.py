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
    pool: Pool, pictures: Sequence[P], read: Callable[[Sequence[P]], Awaitable[Sequence[A]]]
) -> list[A]:
    """The answers of `read`, which is given a few of the pictures at a time, in their order.

    Args:
        pool: that `read` has threads of.

    Raises:
        OverloadedError: the first of them would wait too long.
        Exception: the first that `read` raises; what it was doing besides is given up.
    """
    pool.admit()
    size = min(AT_ONCE, math.ceil(len(pictures) / pool.threads))
    starts = range(0, len(pictures), size)
    remaining = iter(starts)
    answered: dict[int, Sequence[A]] = {}

    async def run() -> None:
        for start in remaining:
            answered[start] = await read(pictures[start : start + size])

    try:
        async with asyncio.TaskGroup() as group:
            # One part more than threads, so that none of them has to wait for the next.
            for _ in range(min(pool.threads + 1, len(starts))):
                group.create_task(run())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return list(chain.from_iterable(answered[start] for start in starts))
