"""Reads many pictures of one request a few at a time, so that others have their turn between."""

import asyncio
import itertools
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from service.runtime.batcher import Pool
from service.runtime.predictor import AT_ONCE, IN_A_ROW

P = TypeVar("P")
Q = TypeVar("Q")
R = TypeVar("R")
A = TypeVar("A")

_TOGETHER = IN_A_ROW // AT_ONCE
"""Parts that the event loop prepares, and completes, one after the other."""


async def in_parts(
    pool: Pool, pictures: Sequence[P], read: Callable[[Sequence[P]], Awaitable[Sequence[A]]]
) -> list[A]:
    """The answers of `read`, which is given a few of the pictures at a time, in their order.

    Args:
        pool: that `read` has threads of.

    Raises:
        OverloadedError: the first of them would wait too long, or one of them did.
        Exception: the first that `read` raises; what it was doing besides is given up.
    """
    return await in_stages(
        pool, pictures, lambda part: part, read, lambda _, __, answers: answers, ahead=False
    )


async def in_stages(
    pool: Pool,
    pictures: Sequence[P],
    prepare: Callable[[Sequence[P]], Q],
    work: Callable[[Q], Awaitable[R]],
    complete: Callable[[Sequence[P], Q, R], Sequence[A]],
    *,
    ahead: bool = True,
) -> list[A]:
    """The same where the event loop does what is before and behind the work of the threads.

    Args:
        prepare: makes of a part what `work` takes.
        complete: makes the answers of a part, what was prepared, and the result of `work`.
        ahead: whether one part more than there are threads may be on its way, so that none of them
            has to wait for the next; only if it need not wait for long. A few more are prepared
            then, without it all of them at once.

    Once a part has taken longer than a picture of another request may wait, a thread is left to
    those, if there are several.
    """
    pool.admit()
    room = asyncio.Semaphore(pool.threads + (ahead and pool.soon_done(AT_ONCE)))
    to_leave = pool.threads > 1

    async def worked(prepared: Q) -> R:
        nonlocal to_leave
        await room.acquire()
        began = time.monotonic()
        try:
            return await work(prepared)
        finally:
            if to_leave and time.monotonic() - began > pool.most_seconds:
                to_leave = False  # that thread is for others from now on
            else:
                room.release()

    begun: deque[tuple[Sequence[P], Q, asyncio.Task[R]]] = deque()
    answered: list[A] = []

    async def complete_some() -> None:
        some = [begun.popleft() for _ in range(min(_TOGETHER, len(begun)))]
        await asyncio.wait([task for _, _, task in some])
        for part, prepared, task in some:
            answered.extend(complete(part, prepared, await task))

    try:
        async with asyncio.TaskGroup() as group:
            for part in _parts(pictures, pool.threads):
                prepared = prepare(part)
                begun.append((part, prepared, group.create_task(worked(prepared))))
                if len(begun) % _TOGETHER:
                    continue
                if ahead and len(begun) > pool.threads + _TOGETHER:
                    await complete_some()
                await asyncio.sleep(0)  # Others have their turn, the tasks begin,
                await asyncio.sleep(0)  # and what they submit is handed over.
            while begun:
                await complete_some()
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return answered


def _parts(pictures: Sequence[P], threads: int) -> Iterator[Sequence[P]]:
    """As many for each thread, nearly as large as each other, of at most AT_ONCE pictures."""
    count = min(len(pictures), threads * math.ceil(len(pictures) / (threads * AT_ONCE)))
    limits = [len(pictures) * number // count for number in range(count + 1)]
    return (pictures[start:end] for start, end in itertools.pairwise(limits))
