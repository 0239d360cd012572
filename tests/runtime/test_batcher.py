"""What waits for a thread, what is done together, and what is refused."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import wait
from contextlib import suppress
from typing import Any

import pytest

from service.runtime.batcher import Batcher, ClientGoneError, OverloadedError
from tests.runtime.work import LONG, Clock, begin, doubled, noted, recorded, run, stuck, submit


def test_results_and_errors_come_back() -> None:
    """Work runs in a thread, and ends as it would have ended here."""

    async def test() -> None:
        batcher = Batcher(2, 4, LONG)
        assert await batcher.run(threading.get_ident) != threading.get_ident()
        assert await submit(batcher, doubled, 4) == 8
        with pytest.raises(ZeroDivisionError):
            await batcher.run(lambda: 1 // 0)
        assert batcher.in_flight == 0

    run(test)


def test_the_event_loop_pauses_while_all_threads_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is done until a thread is free, and then everything at once."""
    monkeypatch.setattr("service.runtime.batcher._PAUSE_SECONDS", LONG)
    rests = threading.Event()

    def observed_wait(*arguments: Any) -> Any:
        rests.set()
        return wait(*arguments)

    monkeypatch.setattr("service.runtime.batcher.wait", observed_wait)

    async def test() -> None:
        batcher = Batcher(1, 4, LONG)
        batcher.pause()  # with a free thread there is none
        begun = threading.Event()
        ran: list[str] = []

        def work() -> list[str]:
            begun.set()
            assert rests.wait(20)
            return list(ran)

        task = await begin(batcher.run(work))
        await asyncio.to_thread(begun.wait)
        batcher.pause()
        asyncio.get_running_loop().call_soon(ran.append, "something else")
        assert await task == []
        assert ran == ["something else"]

    run(test)


def test_threads_run_side_by_side() -> None:
    """So many pieces of work as there are threads run at once."""

    async def test() -> None:
        batcher = Batcher(3, 4, LONG)
        barrier = threading.Barrier(3, timeout=20)
        await asyncio.gather(*(batcher.run(barrier.wait) for _ in range(3)))

    run(test)


def test_all_threads_are_there_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later, the system may allow no more; if it does not now, that is told."""
    start, started = threading.Thread.start, threading.Semaphore(3)

    def bounded(thread: threading.Thread) -> None:
        if not started.acquire(blocking=False):
            raise RuntimeError("can't start new thread")
        start(thread)

    async def test() -> None:
        monkeypatch.setattr(threading.Thread, "start", bounded)
        batcher = Batcher(3, 3, LONG)
        with pytest.raises(RuntimeError, match="can't start"):
            Batcher(1, 3, LONG)
        at_once = threading.Barrier(3)

        def work(items: Sequence[int]) -> list[int]:
            at_once.wait(20)
            return doubled(items)

        tasks = [submit(batcher, work, 1, slow=number == 0) for number in range(3)]
        assert await asyncio.gather(*tasks) == [2, 2, 2]

    run(test)


def test_what_waits_is_done_together() -> None:
    """A thread that becomes free takes up to four items, in the order they came."""

    async def test() -> None:
        batcher = Batcher(1, 10, LONG)
        calls: list[list[int]] = []

        def work(items: Sequence[int]) -> list[int]:
            calls.append(list(items))
            return doubled(items)

        async with stuck(batcher):
            tasks = [await begin(submit(batcher, work, i)) for i in range(6)]
            assert (batcher.waiting, batcher.in_flight) == (6, 7)
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]
        assert calls == [[0, 1, 2, 3], [4, 5]]

    run(test)


def test_only_the_same_work_is_done_together() -> None:
    """Other work has its turn in the order in which it came."""

    async def test() -> None:
        batcher = Batcher(1, 10, LONG)
        calls: list[tuple[str, int]] = []

        def one(items: Sequence[int]) -> list[int]:
            calls.append(("one", len(items)))
            return doubled(items)

        def other(items: Sequence[int]) -> list[int]:
            calls.append(("other", len(items)))
            return doubled(items)

        async with stuck(batcher):
            tasks = [await begin(submit(batcher, work, 1)) for work in (one, one, other, one)]
        assert await asyncio.gather(*tasks) == [2] * 4
        assert calls == [("one", 2), ("other", 1), ("one", 1)]

    run(test)


def test_one_that_fails_harms_no_other() -> None:
    """Where work raises for several items, each of them is tried alone."""

    async def test() -> None:
        batcher = Batcher(1, 10, LONG)

        def work(items: Sequence[int]) -> list[float]:
            return [1 / item for item in items]

        async with stuck(batcher):
            tasks = [await begin(submit(batcher, work, i)) for i in (1, 0, 2)]
        first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
        assert (first, third) == (1, 0.5)
        assert isinstance(second, ZeroDivisionError)

    run(test)


def test_a_full_queue_refuses() -> None:
    """A request that finds the queue full is refused, and what waits is done."""

    async def test() -> None:
        batcher = Batcher(1, 2, LONG)
        async with stuck(batcher):
            tasks = []
            for _ in range(2):
                batcher.admit()
                tasks.append(await begin(submit(batcher, doubled, 1)))
            with pytest.raises(OverloadedError) as refused:
                batcher.admit()
            assert refused.value.retry_seconds >= 1
        assert await asyncio.gather(*tasks) == [2, 2]
        batcher.admit()

    run(test)


def test_a_full_queue_has_room_for_whom_less_waits() -> None:
    """The newest of the other client is refused for it; until it has half as much itself."""

    async def test() -> None:
        batcher = Batcher(1, 4, LONG)
        given, work = recorded()
        tasks = []

        async def send(client: str, item: int) -> int:
            batcher.admit(client=client)
            return await submit(batcher, work, item)

        async with stuck(batcher):
            tasks += [await begin(send("many", item)) for item in range(4)]
            tasks.append(await begin(send("few", 4)))
            tasks += [await begin(send(client, 5)) for client in ("few", "many")]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [isinstance(outcome, OverloadedError) for outcome in outcomes]
        assert refused == [False, False, False, True, False, True, True]
        assert given == [0, 4, 1, 2]

    run(test)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of batchers."""
    clock = Clock()
    monkeypatch.setattr("service.runtime.batcher.time", clock)
    return clock


@pytest.mark.parametrize("lane", ["pictures", "slow pictures", "questions", "batches"])
def test_clients_take_turns(lane: str, clock: Clock) -> None:
    """However much of another client's waits, and whatever it is."""

    async def test() -> None:
        batcher = Batcher(1, 64, LONG)
        begun: list[str] = []

        async def send(client: str) -> None:
            batcher.admit(client=client)
            work = noted(begun, client, clock)
            match lane:
                case "questions":
                    await batcher.run(lambda: work([0]), slow=True)
                case "batches":
                    await batcher.submit(work, [0, 1])
                case _:
                    await batcher.submit(work, [0], slow=lane == "slow pictures")

        async with stuck(batcher):
            tasks = [await begin(send("many")) for _ in range(9)]
            tasks += [await begin(send(client)) for client in ("few", "few", "one")]
        await asyncio.gather(*tasks)
        assert begun == ["many", "few", "one", "many", "few", *["many"] * 7]

    run(test)


def test_who_comes_again_and_again_has_no_more_turns(clock: Clock) -> None:
    """What waits of a client is done in its order, and is not put off for ever by others' newer."""

    async def test() -> None:
        batcher = Batcher(1, 64, LONG)
        begun: list[str] = []

        async def send(client: str, times: int) -> None:
            for number in range(times):
                batcher.admit(client=client)
                await batcher.submit(noted(begun, f"{client}{number}", clock, 0.01), [0])

        await send("first", 1)  # so that the time of a picture is known
        async with stuck(batcher):
            tasks = [await begin(send(client, 1)) for client in "aaa"]
            tasks += [await begin(send("b", 4))]
        await asyncio.gather(*tasks)
        assert begun[1:] == ["a0", "b0", "a0", "a0", "b1", "b2", "b3"]

    run(test)


@pytest.mark.parametrize("pictures", [1, 2], ids=["slow pictures", "batches"])
@pytest.mark.parametrize("quick", [0, 20])
def test_who_comes_again_at_once_keeps_out_nobody_who_comes_seldom(
    pictures: int, quick: int, clock: Clock
) -> None:
    """Though each has no more than one, together they fill the queue again and again, and others
    have much work done that takes next to no time.
    """

    async def test() -> None:
        batcher = Batcher(1, 64, LONG)
        begun: list[str] = []

        async def send(client: str, seconds: float) -> None:
            batcher.admit(batch=pictures > 1, client=client)
            work = noted(begun, client, clock, seconds)
            await batcher.submit(work, [0] * pictures, slow=pictures == 1)

        for client in "abcabca":
            await send(client, 0.1)
        for _ in range(quick):
            await send("quick", 0.0001)
        begun.clear()
        batcher.slow.mean_seconds = batcher.batches.mean_seconds = 0.4 * LONG / pictures
        async with stuck(batcher):
            tasks = [await begin(send(client, 0.1)) for client in ("b", "c", "a", "seldom")]
        await asyncio.gather(*tasks)
        assert begun[0] == "seldom"
        assert begun[-1] == "a"

    run(test)


def test_many_who_come_once_keep_out_nobody_who_comes_often(clock: Clock) -> None:
    """One comes as soon as it is answered, beside two others each time that never come again."""

    async def test() -> None:
        batcher = Batcher(1, 64, LONG)
        given: list[str] = []

        def work(items: Sequence[str]) -> Sequence[str]:
            given.extend(items)
            clock.seconds += 0.01
            return items

        async def send(client: str) -> None:
            batcher.admit(client=client)
            await submit(batcher, work, client, slow=True)

        async def come_once(numbers: range) -> None:
            for number in numbers:
                await send(f"once {number}")

        async def come_often() -> None:
            while len(given) < 900:
                await send("often")

        await asyncio.gather(come_once(range(500)), come_once(range(500, 1000)), come_often())
        assert given[:900].count("often") > 40

    run(test)


def test_time_of_threads_is_forgotten(clock: Clock) -> None:
    """Who has had much of it, long ago, is a client like others."""

    async def test() -> None:
        batcher = Batcher(1, 64, LONG)
        begun: list[str] = []

        async def send(client: str) -> None:
            batcher.admit(client=client)
            await batcher.submit(noted(begun, client, clock, 0.1), [0])

        for pause in (0.0, 60.0):
            for _ in range(5):
                await send("much")
            clock.seconds += pause
            await send("little")
            begun.clear()
            async with stuck(batcher):
                tasks = [await begin(send(client)) for client in ("much", "little")]
            await asyncio.gather(*tasks)
            assert begun == (["much", "little"] if pause else ["little", "much"])

    run(test)


def test_what_is_being_done_counts_for_a_client() -> None:
    """Who keeps the threads busy has no room in a full queue that another needs."""

    async def test() -> None:
        batcher = Batcher(1, 1, LONG)

        async def send(client: str) -> list[int]:
            batcher.admit(client=client)
            return await batcher.submit(doubled, [1])

        batcher.admit(client="many")
        async with stuck(batcher):
            tasks = [await begin(send(client)) for client in ("many", "few", "few", "one")]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [isinstance(outcome, OverloadedError) for outcome in outcomes]
        assert refused == [True, False, True, True]
        assert await send("one") == [2]
        assert not batcher.ordinary.clients

    run(test)


def test_a_slow_queue_refuses() -> None:
    """A request is refused whose wait would be too long, though the queue has room for it."""

    async def test() -> None:
        batcher = Batcher(1, 1000, LONG)
        async with stuck(batcher):
            task = await begin(submit(batcher, doubled, 1))
            batcher.admit()
            batcher.ordinary.mean_seconds = LONG
            with pytest.raises(OverloadedError) as refused:
                batcher.admit()
            assert refused.value.retry_seconds >= LONG
        assert await task == 2

    run(test)


@pytest.mark.parametrize("threads", [1, 2])
def test_who_finds_nothing_waiting_is_admitted(threads: int) -> None:
    """However slow the machine is, and whatever a picture took before."""

    async def test() -> None:
        batcher = Batcher(threads, 0, 0.001)
        batcher.ordinary.mean_seconds = 1000.0
        for _ in range(3):
            batcher.admit()
            assert await submit(batcher, doubled, 1) == 2
            assert await batcher.submit(doubled, range(50)) == [*range(0, 100, 2)]
        async with stuck(batcher):
            batcher.admit()

    run(test)


def test_the_queue_time_is_kept_while_threads_are_stuck() -> None:
    """What has waited for so long is refused, although no thread becomes free."""

    async def test() -> None:
        batcher = Batcher(1, 10, 0.01)
        async with stuck(batcher):
            for work in (
                submit(batcher, doubled, 1),
                batcher.run(lambda: None),
                batcher.submit(doubled, [1, 2]),
            ):
                with pytest.raises(OverloadedError):
                    await work
            assert batcher.waiting == 0
        assert await submit(batcher, doubled, 1) == 2

    run(test)


def test_who_has_gone_is_not_served() -> None:
    """Work whose client has gone while it waited is not done; nor is what was cancelled."""

    async def test() -> None:
        batcher = Batcher(1, 10, LONG)
        done: list[str] = []
        async with stuck(batcher):
            gone = await begin(batcher.run(lambda: done.append("gone"), is_gone=lambda: True))
            cancelled = await begin(batcher.run(lambda: done.append("cancelled")))
            cancelled.cancel()
        with pytest.raises(ClientGoneError):
            await gone
        assert await batcher.run(lambda: done) == []
        assert batcher.in_flight == 0

    run(test)


def test_what_was_done_is_observed() -> None:
    """The wait of each item, and the pictures that were read together; other work is none."""

    async def test() -> None:
        seen: list[tuple[int, int]] = []
        batcher = Batcher(
            1,
            10,
            LONG,
            observe=lambda waits, seconds, pictures: seen.append((len(waits), pictures)),
        )
        async with stuck(batcher):
            tasks = [await begin(submit(batcher, doubled, i)) for i in range(3)]
        await asyncio.gather(*tasks)
        mean = batcher.ordinary.mean_seconds
        await batcher.run(lambda: None)
        assert seen == [(1, 1), (3, 3)]
        assert batcher.ordinary.mean_seconds == mean > 0

    run(test)


class Document:
    """Something large, that somebody might still hold."""


@pytest.mark.parametrize("way", ["gone", "fails", "expires", "batch"])
def test_what_was_refused_is_forgotten(way: str) -> None:
    """Without the help of the garbage collector, which may not come round for hours."""
    seen: list[weakref.ref[Document]] = []

    def fail(items: Sequence[Document]) -> list[None]:
        raise ZeroDivisionError

    def ignore(items: Sequence[Document]) -> list[None]:
        return [None for _ in items]

    async def refused(batcher: Batcher) -> None:
        document = Document()
        seen.append(weakref.ref(document))
        with suppress(ClientGoneError, ZeroDivisionError, OverloadedError):
            if way == "gone":
                await submit(batcher, ignore, document, is_gone=lambda: True)
            elif way == "batch":
                await batcher.submit(fail, [document, document])
            else:
                await submit(batcher, fail, document)

    async def test() -> None:
        batcher = Batcher(1, 4, 0.01 if way == "expires" else LONG)
        if way == "expires":
            async with stuck(batcher):
                await refused(batcher)
        else:
            await refused(batcher)
        await batcher.run(lambda: None)  # by when its thread has done with the one before
        await asyncio.sleep(0)
        assert [reference() for reference in seen] == [None]

    gc.disable()
    try:
        run(test)
    finally:
        gc.enable()


def test_many_callers_and_few_threads() -> None:
    """Nothing is lost or done twice."""

    async def test() -> None:
        batcher = Batcher(4, 10_000, LONG)
        for size in (1, 2, 7, 100, 3, 500):
            results = await asyncio.gather(*(submit(batcher, doubled, i) for i in range(size)))
            assert results == [*range(0, 2 * size, 2)]
        batcher.close()

    run(test)
