import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest

from service.pool import ClientGoneError, OverloadedError, Pool


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def blocked(pool: Pool, count: int) -> tuple[threading.Event, list[Awaitable[int]]]:
    """So many pieces of work that end when the event is set."""
    release = threading.Event()

    def work() -> int:
        release.wait(20)
        return threading.get_ident()

    return release, [asyncio.ensure_future(pool.run(work)) for _ in range(count)]


def test_results_and_errors_come_back() -> None:
    """Work runs in a thread of the pool, and ends as it would have ended here."""

    async def test() -> None:
        pool = Pool(2, 4, 1.0)
        assert await pool.run(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0)
        assert pool.in_flight == 0

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
        release, waiting = blocked(pool, 5)
        await asyncio.sleep(0)
        assert (pool.in_flight, pool.waiting) == (5, 3)
        with pytest.raises(OverloadedError) as refused:
            pool.admit()
        assert refused.value.retry_seconds >= 1
        with pytest.raises(OverloadedError):
            await pool.run(lambda: None)
        release.set()
        assert len(await asyncio.gather(*waiting)) == 5
        pool.admit()

    run(test)


def test_a_slow_queue_refuses() -> None:
    """What would wait longer than it may is refused, though there is a place."""

    async def test() -> None:
        pool = Pool(1, 1000, 0.5)
        pool.mean_seconds = 0.2
        release, waiting = blocked(pool, 3)
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            pool.admit()
        release.set()
        await asyncio.gather(*waiting)

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
        assert await pool.run(lambda: "read", pictures=64) == "read"

    run(test)


def test_nobody_waits_for_it() -> None:
    """Work whose client hung up while it waited is not done; nor is what was cancelled."""

    async def test() -> None:
        pool = Pool(1, 10, 60.0)
        release, waiting = blocked(pool, 1)
        done: list[str] = []
        gone = asyncio.ensure_future(pool.run(lambda: done.append("gone"), gone=lambda: True))
        cancelled = asyncio.ensure_future(pool.run(lambda: done.append("cancelled")))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(ClientGoneError):
            await gone
        await asyncio.gather(*waiting)
        assert await pool.run(lambda: done) == []
        assert pool.in_flight == 0

    run(test)


def test_the_event_loop_goes_on() -> None:
    """While all threads work, the loop serves others."""

    async def test() -> None:
        pool = Pool(1, 1, 1.0)
        release, waiting = blocked(pool, 1)
        for _ in range(100):
            await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*waiting)

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


def doubled(items: Sequence[int]) -> Sequence[int | Exception]:
    return [2 * item for item in items]


def test_what_waits_is_done_together() -> None:
    """A thread that becomes free takes so many at once as it may, in the order they came."""

    async def test() -> None:
        pool = Pool(1, 10, 60.0, at_once=4)
        release, waiting = blocked(pool, 1)
        calls: list[list[int]] = []

        def work(items: Sequence[int]) -> Sequence[int | Exception]:
            calls.append(list(items))
            return doubled(items)

        together = [asyncio.ensure_future(pool.run_together(work, i)) for i in range(6)]
        await asyncio.sleep(0)
        release.set()
        assert await asyncio.gather(*together) == [0, 2, 4, 6, 8, 10]
        await asyncio.gather(*waiting)
        assert calls == [[0, 1, 2, 3], [4, 5]]

    run(test)


def test_a_free_thread_gets_its_share() -> None:
    """Two that wait are not done by one thread while another is free."""

    async def test() -> None:
        pool = Pool(2, 10, 60.0, at_once=4)
        barrier = threading.Barrier(2, timeout=20)

        def meet(items: Sequence[int]) -> Sequence[int | Exception]:
            barrier.wait()
            return doubled(items)

        for _ in range(100):
            both = await asyncio.gather(*(pool.run_together(meet, i) for i in range(2)))
            assert both == [0, 2]

    run(test)


def test_only_the_same_work_is_done_together() -> None:
    """What waits while the model is exchanged is read with the one that it was meant for."""

    async def test() -> None:
        pool = Pool(1, 10, 60.0, at_once=4)
        release, waiting = blocked(pool, 1)

        def negated(items: Sequence[int]) -> Sequence[int | Exception]:
            return [-item for item in items]

        works = [doubled, doubled, negated, doubled]
        mixed = [asyncio.ensure_future(pool.run_together(w, i)) for i, w in enumerate(works, 1)]
        lone = asyncio.ensure_future(pool.run(lambda: "lone"))
        await asyncio.sleep(0)
        release.set()
        assert await asyncio.gather(*mixed) == [2, 4, -3, 8]
        assert await lone == "lone"
        await asyncio.gather(*waiting)

    run(test)


def test_a_failure_is_that_of_one() -> None:
    """Neither an error given as an outcome nor one that is raised harms those done together."""

    async def test() -> None:
        pool = Pool(1, 10, 60.0, at_once=4)
        release, waiting = blocked(pool, 1)

        def work(items: Sequence[int]) -> Sequence[int | Exception]:
            if 2 in items:
                raise ZeroDivisionError
            return [ValueError("one") if item == 1 else item for item in items]

        together = [asyncio.ensure_future(pool.run_together(work, i)) for i in range(4)]
        await asyncio.sleep(0)
        release.set()
        zero, one, two, three = await asyncio.gather(*together, return_exceptions=True)
        assert (zero, three) == (0, 3)
        assert isinstance(one, ValueError)
        assert isinstance(two, ZeroDivisionError)
        await asyncio.gather(*waiting)

    run(test)


def test_who_hung_up_is_left_out() -> None:
    """Of what waits together, only what somebody waits for is done."""

    async def test() -> None:
        pool = Pool(1, 10, 60.0, at_once=4)
        release, waiting = blocked(pool, 1)
        done: list[int] = []

        def work(items: Sequence[int]) -> Sequence[int | Exception]:
            done.extend(items)
            return doubled(items)

        gone = asyncio.ensure_future(pool.run_together(work, 1, gone=lambda: True))
        there = asyncio.ensure_future(pool.run_together(work, 2))
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(ClientGoneError):
            await gone
        assert (await there, done) == (4, [2])
        await asyncio.gather(*waiting)

    run(test)


def test_times_are_those_of_a_picture() -> None:
    """Waiting times are foretold from a picture's share of what was done together."""

    async def test() -> None:
        observed: list[tuple[Sequence[float], float, int]] = []
        pool = Pool(1, 10, 60.0, at_once=4, observe=lambda *times: observed.append(times))
        release = threading.Event()

        def fail() -> None:
            release.wait(20)
            raise ZeroDivisionError

        first = asyncio.ensure_future(pool.run(fail))
        together = [asyncio.ensure_future(pool.run_together(doubled, i)) for i in range(4)]
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(ZeroDivisionError):
            await first
        await asyncio.gather(*together)
        pool.close()
        while len(observed) < 2:
            await asyncio.sleep(0.001)
        waits, seconds, pictures = observed[1]
        assert (len(waits), pictures) == (4, 4)
        assert pool.mean_seconds == pytest.approx(seconds / 4)

    run(test)
