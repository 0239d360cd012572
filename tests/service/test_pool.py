import asyncio
import gc
import threading
import time
import weakref
from contextlib import suppress

import pytest

from service.runtime.batcher import ClientGoneError, OverloadedError, Pool
from tests.service.pools import busy, run


def test_results_and_errors_come_back() -> None:
    """Work runs in a thread of the pool, and ends as it would have ended here."""

    async def test() -> None:
        pool = Pool(2, 4, 1.0)
        assert await pool.run(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0)
        assert pool.in_flight == 0

    run(test)


class Document:
    """Something large, that somebody might still hold."""


def test_what_was_refused_is_forgotten() -> None:
    """Without the help of the garbage collector, which may not come round for hours."""
    seen: list[weakref.ref[Document]] = []

    async def refused(pool: Pool) -> None:
        document = Document()
        seen.append(weakref.ref(document))
        with suppress(ClientGoneError):
            await pool.run_together(lambda items: items, document, gone=lambda: True)

    async def test() -> None:
        pool = Pool(1, 4, 1.0)
        await refused(pool)
        await pool.run(lambda: None)  # by when its thread has done with the one before
        assert [reference() for reference in seen] == [None]

    gc.disable()
    try:
        run(test)
    finally:
        gc.enable()


def test_threads_wait_with_empty_hands() -> None:
    """What was done last is not kept until there is something else to do."""
    seen: list[weakref.ref[Document]] = []

    def make() -> Document:
        document = Document()
        seen.append(weakref.ref(document))
        return document

    async def test() -> None:
        pool = Pool(1, 4, 1.0)
        await pool.run(make)
        for _ in range(1000):
            if seen[0]() is None:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the thread still holds it")

    run(test)


def test_threads_run_side_by_side() -> None:
    """So many pieces of work as there are threads run at once."""

    async def test() -> None:
        pool = Pool(3, 4, 1.0)
        barrier = threading.Barrier(3, timeout=20)
        await asyncio.gather(*(pool.run(barrier.wait) for _ in range(3)))

    run(test)


def test_a_full_queue_refuses() -> None:
    """What finds neither a thread nor a place is refused at once, and what waits is done."""

    async def test() -> None:
        pool = Pool(2, 3, 60.0)
        async with busy(pool, 5):
            assert (pool.in_flight, pool.waiting) == (5, 3)
            with pytest.raises(OverloadedError) as refused:
                pool.admit()
            assert refused.value.retry_seconds >= 1
            with pytest.raises(OverloadedError):
                await pool.run_together(lambda items: items, "one more")
        pool.admit()

    run(test)


def test_a_slow_queue_refuses() -> None:
    """What would wait longer than it may is refused, though there is a place."""

    async def test() -> None:
        pool = Pool(1, 1000, 0.5)
        pool.mean_seconds = 0.2
        async with busy(pool, 3):
            with pytest.raises(OverloadedError):
                pool.admit()

    run(test)


@pytest.mark.parametrize(("begun", "refused"), [(1, False), (7, False), (11, True)])
def test_what_has_begun_is_waited_for(begun: int, refused: bool) -> None:
    """Half of the pictures that a thread reads together, on the average."""

    async def test() -> None:
        pool = Pool(1, 1000, 0.5)
        pool.mean_seconds = 0.1
        release = threading.Event()
        work = asyncio.ensure_future(pool.run(lambda: release.wait(20), pictures=begun))
        while pool.waiting or not pool.in_flight:
            await asyncio.sleep(0.001)
        if refused:
            with pytest.raises(OverloadedError):
                pool.admit()
        else:
            pool.admit()
        release.set()
        while pool._tasks.begun:
            pass
        pool.expect()
        pool.admit()  # though the event loop has not heard of it yet
        assert await work

    run(test)


def test_what_arrives_together_is_counted() -> None:
    """Of requests in one turn of the loop, no more are admitted than there are places."""

    async def test() -> None:
        pool = Pool(1, 2, 60.0)
        for _ in range(3):  # one for the thread, and two that wait
            pool.admit()
            pool.expect()
        with pytest.raises(OverloadedError):
            pool.admit()
        await asyncio.sleep(0)
        pool.admit()

    run(test)


def test_an_idle_thread_takes_any_batch() -> None:
    """A batch larger than the queue is read where nobody else waits."""

    async def test() -> None:
        pool = Pool(1, 4, 1.0)
        pool.admit()
        assert await pool.run(lambda: "read", pictures=64) == "read"

    run(test)


def test_work_without_pictures_is_not_counted_as_one() -> None:
    """It occupies a thread, and tells nothing of how long a picture takes."""

    async def test() -> None:
        observed: list[int] = []
        pool = Pool(1, 2, 1.0, observe=lambda waits, seconds, pictures: observed.append(pictures))
        begun, release = threading.Event(), threading.Event()
        work = asyncio.ensure_future(pool.run(lambda: (begun.set(), release.wait(20))))
        await asyncio.to_thread(begun.wait, 20)
        async with busy(pool):
            assert (pool.in_flight, pool.waiting) == (1, 1)
            release.set()
            await work
        mean = pool.mean_seconds
        await pool.run(lambda: time.sleep(0.01))
        assert (observed, pool.mean_seconds) == ([1], mean)

    run(test)


def test_nobody_waits_for_it() -> None:
    """Work whose client hung up while it waited is not done; nor is what was cancelled."""

    async def test() -> None:
        pool = Pool(1, 10, 60.0)
        done: list[str] = []
        async with busy(pool):
            gone = asyncio.ensure_future(pool.run(lambda: done.append("gone"), gone=lambda: True))
            cancelled = asyncio.ensure_future(pool.run(lambda: done.append("cancelled")))
            await asyncio.sleep(0)
            cancelled.cancel()
        with pytest.raises(ClientGoneError):
            await gone
        assert await pool.run(lambda: done) == []
        assert pool.in_flight == 0

    run(test)


def test_the_event_loop_goes_on() -> None:
    """While all threads work, the loop serves others."""

    async def test() -> None:
        pool = Pool(1, 1, 1.0)
        async with busy(pool):
            for _ in range(100):
                await asyncio.sleep(0)
            assert pool.in_flight == 1

    run(test)


def test_many_callers_and_few_threads() -> None:
    """Nothing is lost or done twice where threads fall asleep and wake all the time."""

    async def test() -> None:
        pool = Pool(4, 10_000, 60.0)
        results = []
        for size in (1, 2, 7, 100, 3, 500):
            results += await asyncio.gather(
                *(pool.run(lambda number=number: number) for number in range(size))
            )
        assert len(results) == 613
        assert sorted(results[-500:]) == list(range(500))
        pool.close()

    run(test)
