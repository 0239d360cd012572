"""Pictures that wait are done together."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from service.runtime.batcher import ClientGoneError, OverloadedError, Pool
from tests.service.pools import busy, run


def doubled(items: Sequence[int]) -> Sequence[int | Exception]:
    return [2 * item for item in items]


def test_what_waits_is_done_together() -> None:
    """A thread that becomes free takes so many at once as it may, in the order they came."""

    async def test() -> None:
        pool = Pool(1, 10, 60.0, at_once=4)
        calls: list[list[int]] = []

        def work(items: Sequence[int]) -> Sequence[int | Exception]:
            calls.append(list(items))
            return doubled(items)

        async with busy(pool):
            together = [asyncio.ensure_future(pool.run_together(work, i)) for i in range(6)]
        assert await asyncio.gather(*together) == [0, 2, 4, 6, 8, 10]
        assert calls == [[0, 1, 2, 3], [4, 5]]

    run(test)


@pytest.mark.parametrize(
    ("mean_seconds", "expected"),
    [(1e-6, [16, 16, 12, 8, *[4] * 7]), (1000.0, [4] * 20)],
    ids=["quick", "slow"],
)
def test_of_a_long_queue_more_is_done_together(mean_seconds: float, expected: list[int]) -> None:
    """A quarter of it, so that nobody waits for nearly all others, in fours as the model has it."""

    async def test() -> None:
        pool = Pool(1, 100, 60.0, at_once=4, in_a_row=16)
        calls: list[int] = []

        def work(items: Sequence[int]) -> Sequence[int | Exception]:
            calls.append(len(items))
            return doubled(items)

        async with busy(pool):
            together = [asyncio.ensure_future(pool.run_together(work, i)) for i in range(80)]
            await asyncio.sleep(0)
            pool.mean_seconds = mean_seconds
        assert await asyncio.gather(*together) == list(range(0, 160, 2))
        assert calls == expected

    run(test)


@pytest.mark.parametrize(("threads", "parts"), [(1, [4]), (2, [2, 2]), (4, [1, 1, 1, 1])])
def test_what_comes_in_one_turn_is_shared(threads: int, parts: list[int]) -> None:
    """By the threads that are free; none runs off with the first of it alone."""

    async def test() -> None:
        pool = Pool(threads, 10, 60.0, at_once=4)
        barrier = threading.Barrier(len(parts), timeout=20)
        calls: list[int] = []

        def work(items: Sequence[int]) -> Sequence[int | Exception]:
            barrier.wait()
            calls.append(len(items))
            return doubled(items)

        async def decode_and_run(item: int) -> None:
            time.sleep(0.005)  # in which a thread that is woken begins
            await pool.run_together(work, item)

        for _ in range(5):
            calls.clear()
            await asyncio.gather(*map(decode_and_run, range(4)))
            assert calls == parts

    run(test)


def test_what_is_to_be_handed_over_waits() -> None:
    """It counts for who comes next, and is done even if the pool is closed before."""

    async def test() -> None:
        pool = Pool(1, 2, 60.0)
        given = [asyncio.ensure_future(pool.run_together(doubled, i)) for i in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            pool.admit()
        assert pool.waiting == 2
        pool.close()
        assert await asyncio.gather(*given) == [0, 2, 4]

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

        def negated(items: Sequence[int]) -> Sequence[int | Exception]:
            return [-item for item in items]

        works = [doubled, doubled, negated, doubled]
        async with busy(pool):
            mixed = [asyncio.ensure_future(pool.run_together(w, i)) for i, w in enumerate(works, 1)]
            lone = asyncio.ensure_future(pool.run(lambda: "lone"))
        assert await asyncio.gather(*mixed) == [2, 4, -3, 8]
        assert await lone == "lone"

    run(test)


def test_a_failure_is_that_of_one() -> None:
    """Neither an error given as an outcome nor one that is raised harms those done together."""

    async def test() -> None:
        pool = Pool(1, 10, 60.0, at_once=4)

        def work(items: Sequence[int]) -> Sequence[int | Exception]:
            if 2 in items:
                raise ZeroDivisionError
            return [ValueError("one") if item == 1 else item for item in items]

        async with busy(pool):
            together = [asyncio.ensure_future(pool.run_together(work, i)) for i in range(4)]
        zero, one, two, three = await asyncio.gather(*together, return_exceptions=True)
        assert (zero, three) == (0, 3)
        assert isinstance(one, ValueError)
        assert isinstance(two, ZeroDivisionError)

    run(test)


def test_who_hung_up_is_left_out() -> None:
    """Of what waits together, only what somebody waits for is done."""

    async def test() -> None:
        pool = Pool(1, 10, 60.0, at_once=4)
        done: list[int] = []

        def work(items: Sequence[int]) -> Sequence[int | Exception]:
            done.extend(items)
            return doubled(items)

        async with busy(pool):
            gone = asyncio.ensure_future(pool.run_together(work, 1, gone=lambda: True))
            there = asyncio.ensure_future(pool.run_together(work, 2))
        with pytest.raises(ClientGoneError):
            await gone
        assert (await there, done) == (4, [2])

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

        first = asyncio.ensure_future(pool.run(fail, pictures=1))
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
