"""Which work waits for a thread, which is processed as a batch, and which is refused."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import wait
from contextlib import suppress
from typing import Any

import pytest

from service.runtime.batcher import Batcher, Caller, ClientGoneError, OverloadedError
from tests.runtime.work import (
    LONG,
    Clock,
    begin,
    busy_threads,
    doubled,
    named_work,
    recording_work,
    run,
    submit,
)


def test_results_and_errors_are_returned() -> None:
    """Work runs in another thread, and returns or raises as it would here."""

    async def test() -> None:
        batcher = Batcher(2, 4, LONG)
        assert await batcher.run(threading.get_ident) != threading.get_ident()
        assert await submit(batcher, doubled, 4) == 8
        with pytest.raises(ZeroDivisionError):
            await batcher.run(lambda: 1 // 0)
        assert batcher.in_flight == 0

    run(test)


def test_the_event_loop_pauses_while_all_threads_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop runs nothing else until a thread is free, and then everything at once."""
    monkeypatch.setattr("service.runtime.batcher._PAUSE_SECONDS", LONG)
    pauses = threading.Event()

    def observed_wait(*arguments: Any) -> Any:
        pauses.set()
        return wait(*arguments)

    monkeypatch.setattr("service.runtime.batcher.wait", observed_wait)

    async def test() -> None:
        batcher = Batcher(1, 4, LONG)
        batcher.pause()  # does nothing, since a thread is free
        begun = threading.Event()
        ran: list[str] = []

        def work() -> list[str]:
            begun.set()
            assert pauses.wait(20)
            return list(ran)

        task = await begin(batcher.run(work))
        await asyncio.to_thread(begun.wait)
        batcher.pause()
        asyncio.get_running_loop().call_soon(ran.append, "something else")
        assert await task == []
        assert ran == ["something else"]

    run(test)


def test_threads_run_side_by_side() -> None:
    """As many pieces of work run at once as there are threads."""

    async def test() -> None:
        batcher = Batcher(3, 4, LONG)
        barrier = threading.Barrier(3, timeout=20)
        await asyncio.gather(*(batcher.run(barrier.wait) for _ in range(3)))

    run(test)


def test_all_threads_are_started_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may allow no more threads later. If it allows too few now, that is an error."""
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


def test_waiting_items_are_processed_as_a_batch() -> None:
    """A thread that becomes free takes up to four items, in the order of their arrival."""

    async def test() -> None:
        batcher = Batcher(1, 10, LONG)
        calls: list[list[int]] = []

        def work(items: Sequence[int]) -> list[int]:
            calls.append(list(items))
            return doubled(items)

        async with busy_threads(batcher):
            tasks = [await begin(submit(batcher, work, i)) for i in range(6)]
            assert (batcher.waiting, batcher.in_flight) == (6, 7)
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]
        assert calls == [[0, 1, 2, 3], [4, 5]]

    run(test)


def test_only_items_with_the_same_work_share_a_batch() -> None:
    """Other work has its turn in the order of arrival."""

    async def test() -> None:
        batcher = Batcher(1, 10, LONG)
        calls: list[tuple[str, int]] = []

        def one(items: Sequence[int]) -> list[int]:
            calls.append(("one", len(items)))
            return doubled(items)

        def other(items: Sequence[int]) -> list[int]:
            calls.append(("other", len(items)))
            return doubled(items)

        async with busy_threads(batcher):
            tasks = [await begin(submit(batcher, work, 1)) for work in (one, one, other, one)]
        assert await asyncio.gather(*tasks) == [2] * 4
        assert calls == [("one", 2), ("other", 1), ("one", 1)]

    run(test)


def test_an_item_that_fails_does_not_affect_others() -> None:
    """If work raises for a batch, each of its items is tried alone."""

    async def test() -> None:
        batcher = Batcher(1, 10, LONG)

        def work(items: Sequence[int]) -> list[float]:
            return [1 / item for item in items]

        async with busy_threads(batcher):
            tasks = [await begin(submit(batcher, work, i)) for i in (1, 0, 2)]
        first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
        assert (first, third) == (1, 0.5)
        assert isinstance(second, ZeroDivisionError)

    run(test)


def test_a_request_is_refused_while_the_queue_is_full() -> None:
    """The work that waits is still done."""

    async def test() -> None:
        batcher = Batcher(1, 2, LONG)
        async with busy_threads(batcher):
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


def test_a_full_queue_has_room_for_a_client_with_less_work_waiting() -> None:
    """The newest item of the other client is refused instead, until the client has half as many."""

    async def test() -> None:
        batcher = Batcher(1, 4, LONG)
        given, work = recording_work()
        tasks = []

        async def send(client: str, item: int) -> int:
            batcher.admit(Caller(client))
            return await submit(batcher, work, item, caller=Caller(client))

        async with busy_threads(batcher):
            tasks += [await begin(send("many", item)) for item in range(4)]
            tasks.append(await begin(send("few", 4)))
            tasks += [await begin(send(client, 5)) for client in ("few", "many")]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [isinstance(outcome, OverloadedError) for outcome in outcomes]
        assert refused == [False, False, True, True, False, False, True]
        assert given == [0, 4, 1, 5]

    run(test)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that batchers use."""
    clock = Clock()
    monkeypatch.setattr("service.runtime.batcher.time", clock)
    return clock


@pytest.mark.parametrize("lane", ["pictures", "slow pictures", "questions", "batches"])
def test_clients_take_turns(lane: str, clock: Clock) -> None:
    """However much work of another client waits, and whatever kind of work it is."""

    async def test() -> None:
        batcher = Batcher(1, 64, LONG)
        begun: list[str] = []

        async def send(client: str) -> None:
            batcher.admit(Caller(client))
            work = named_work(begun, client, clock)
            match lane:
                case "questions":
                    await batcher.run(lambda: work([0]), Caller(client), slow=True)
                case "batches":
                    await batcher.submit(work, [0, 1], Caller(client))
                case _:
                    slow = lane == "slow pictures"
                    await batcher.submit(work, [0], Caller(client), slow=slow)

        async with busy_threads(batcher):
            tasks = [await begin(send("many")) for _ in range(9)]
            tasks += [await begin(send(client)) for client in ("few", "few", "one")]
        await asyncio.gather(*tasks)
        assert begun == ["many", "few", "one", "many", "few", *["many"] * 7]

    run(test)


def test_a_client_that_sends_again_and_again_gets_no_more_turns(clock: Clock) -> None:
    """A client's waiting work is done in order. Newer work of others does not delay it for ever."""

    async def test() -> None:
        batcher = Batcher(1, 64, LONG)
        begun: list[str] = []

        async def send(client: str, times: int) -> None:
            for number in range(times):
                batcher.admit(Caller(client))
                work = named_work(begun, f"{client}{number}", clock, 0.01)
                await batcher.submit(work, [0], Caller(client))

        await send("first", 1)  # so that the time of a picture is known
        async with busy_threads(batcher):
            tasks = [await begin(send(client, 1)) for client in "aaa"]
            tasks += [await begin(send("b", 4))]
        await asyncio.gather(*tasks)
        assert begun[1:] == ["a0", "b0", "a0", "a0", "b1", "b2", "b3"]

    run(test)


@pytest.mark.parametrize("pictures", [1, 2], ids=["slow pictures", "batches"])
@pytest.mark.parametrize("quick", [0, 20])
def test_clients_that_send_all_the_time_do_not_keep_out_one_that_sends_seldom(
    pictures: int, quick: int, clock: Clock
) -> None:
    """Each has at most one request waiting, but together they fill the queue again and again.
    Requests of others that take almost no time change nothing.
    """

    async def test() -> None:
        batcher = Batcher(1, 64, LONG)
        begun: list[str] = []

        async def send(client: str, seconds: float) -> None:
            batcher.admit(Caller(client), batch=pictures > 1)
            work = named_work(begun, client, clock, seconds)
            await batcher.submit(work, [0] * pictures, Caller(client), slow=pictures == 1)

        for client in "abcabca":
            await send(client, 0.1)
        for _ in range(quick):
            await send("quick", 0.0001)
        begun.clear()
        batcher.slow.mean_seconds = batcher.batches.mean_seconds = 0.4 * LONG / pictures
        async with busy_threads(batcher):
            tasks = [await begin(send(client, 0.1)) for client in ("b", "c", "a", "seldom")]
        await asyncio.gather(*tasks)
        assert begun[0] == "seldom"
        assert begun[-1] == "a"

    run(test)


def test_many_clients_that_send_once_do_not_keep_out_one_that_sends_often(clock: Clock) -> None:
    """One client sends as soon as it is answered, each time beside two that never send again."""

    async def test() -> None:
        batcher = Batcher(1, 64, LONG)
        given: list[str] = []

        def work(items: Sequence[str]) -> Sequence[str]:
            given.extend(items)
            clock.seconds += 0.01
            return items

        async def send(client: str) -> None:
            batcher.admit(Caller(client))
            await submit(batcher, work, client, caller=Caller(client), slow=True)

        async def send_once(numbers: range) -> None:
            for number in numbers:
                await send(f"once {number}")

        async def send_often() -> None:
            while len(given) < 900:
                await send("often")

        await asyncio.gather(send_once(range(500)), send_once(range(500, 1000)), send_often())
        assert given[:900].count("often") > 40

    run(test)


def test_used_thread_time_is_forgotten(clock: Clock) -> None:
    """A client that used much of it long ago is treated like others."""

    async def test() -> None:
        batcher = Batcher(1, 64, LONG)
        begun: list[str] = []

        async def send(client: str) -> None:
            batcher.admit(Caller(client))
            work = named_work(begun, client, clock, 0.1)
            await batcher.submit(work, [0], Caller(client))

        for pause in (0.0, 60.0):
            for _ in range(5):
                await send("much")
            clock.seconds += pause
            await send("little")
            begun.clear()
            async with busy_threads(batcher):
                tasks = [await begin(send(client)) for client in ("much", "little")]
            await asyncio.gather(*tasks)
            assert begun == (["much", "little"] if pause else ["little", "much"])

    run(test)


def test_clients_that_share_a_batch_are_charged_for_their_own_pictures(clock: Clock) -> None:
    """Otherwise a client of cheap pictures would pay for the expensive pictures of others."""

    async def test() -> None:
        batcher = Batcher(1, 64, LONG, weigh=lambda seconds: seconds)
        given: list[float] = []

        def work(items: Sequence[float]) -> Sequence[float]:
            given.extend(items)
            clock.seconds += sum(items)
            return items

        async def send(client: str, seconds: float) -> None:
            await submit(batcher, work, seconds, caller=Caller(client))

        for pause in (0.0, 0.1):
            async with busy_threads(batcher):
                expensive = await begin(send("expensive", 0.4))
                clock.seconds += pause
                cheap = await begin(send("cheap", 0.01))
            await asyncio.gather(expensive, cheap)
        assert given == [0.4, 0.01, 0.01, 0.4]

    run(test)


def test_a_client_that_has_used_the_threads_loses_its_place_in_a_full_queue(clock: Clock) -> None:
    """Another client takes its place, but no client displaces one that has used no more."""

    async def test() -> None:
        batcher = Batcher(1, 1, LONG)

        async def send(client: str) -> None:
            await submit(batcher, named_work([], client, clock, 0.1), 1, caller=Caller(client))

        async def admit_and_send(client: str) -> None:
            batcher.admit(Caller(client))
            await send(client)

        await send("many")
        async with busy_threads(batcher):
            clients = ("many", "few", "few", "one")
            tasks = [await begin(admit_and_send(client)) for client in clients]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [isinstance(outcome, OverloadedError) for outcome in outcomes]
        assert refused == [True, False, True, True]
        assert batcher.in_flight == 0

    run(test)


def test_a_request_that_would_wait_too_long_is_refused() -> None:
    """Even if the queue has room for it."""

    async def test() -> None:
        batcher = Batcher(1, 1000, LONG)
        async with busy_threads(batcher):
            task = await begin(submit(batcher, doubled, 1))
            batcher.admit()
            batcher.ordinary.mean_seconds = LONG
            with pytest.raises(OverloadedError) as refused:
                batcher.admit()
            assert refused.value.retry_seconds >= LONG
        assert await task == 2

    run(test)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_request_is_admitted_if_nothing_waits(threads: int) -> None:
    """However slow the machine is, and however long earlier pictures took."""

    async def test() -> None:
        batcher = Batcher(threads, 0, 0.001)
        batcher.ordinary.mean_seconds = 1000.0
        for _ in range(3):
            batcher.admit()
            assert await submit(batcher, doubled, 1) == 2
            assert await batcher.submit(doubled, range(50)) == [*range(0, 100, 2)]
        async with busy_threads(batcher):
            batcher.admit()

    run(test)


def test_the_queue_time_is_kept_while_all_threads_are_busy() -> None:
    """Work that has waited so long is refused, although no thread becomes free."""

    async def test() -> None:
        batcher = Batcher(1, 10, 0.01)
        async with busy_threads(batcher):
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


def test_work_of_a_client_that_has_gone_is_dropped() -> None:
    """The client closed its connection while the work waited. Cancelled work is dropped, too."""

    async def test() -> None:
        batcher = Batcher(1, 10, LONG)
        done: list[str] = []
        async with busy_threads(batcher):
            gone = await begin(
                batcher.run(lambda: done.append("gone"), caller=Caller(is_gone=lambda: True))
            )
            cancelled = await begin(batcher.run(lambda: done.append("cancelled")))
            cancelled.cancel()
        with pytest.raises(ClientGoneError):
            await gone
        assert await batcher.run(lambda: done) == []
        assert batcher.in_flight == 0

    run(test)


def test_batches_are_observed() -> None:
    """`observe` gets the wait of each item, and the number of pictures; no other work counts."""

    async def test() -> None:
        seen: list[tuple[int, int]] = []
        batcher = Batcher(
            1,
            10,
            LONG,
            observe=lambda waits, seconds, pictures: seen.append((len(waits), pictures)),
        )
        async with busy_threads(batcher):
            tasks = [await begin(submit(batcher, doubled, i)) for i in range(3)]
        await asyncio.gather(*tasks)
        mean = batcher.ordinary.mean_seconds
        await batcher.run(lambda: None)
        assert seen == [(1, 1), (3, 3)]
        assert batcher.ordinary.mean_seconds == mean > 0

    run(test)


class Document:
    """Something large that a reference might keep in memory."""


@pytest.mark.parametrize("way", ["gone", "fails", "expires", "batch"])
def test_refused_work_is_not_kept_in_memory(way: str) -> None:
    """Not even until the garbage collector runs, which may take hours."""
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
                await submit(batcher, ignore, document, caller=Caller(is_gone=lambda: True))
            elif way == "batch":
                await batcher.submit(fail, [document, document])
            else:
                await submit(batcher, fail, document)

    async def test() -> None:
        batcher = Batcher(1, 4, 0.01 if way == "expires" else LONG)
        if way == "expires":
            async with busy_threads(batcher):
                await refused(batcher)
        else:
            await refused(batcher)
        await batcher.run(lambda: None)  # the thread has then finished the work before
        await asyncio.sleep(0)
        assert [reference() for reference in seen] == [None]

    gc.disable()
    try:
        run(test)
    finally:
        gc.enable()


def test_many_callers_share_few_threads() -> None:
    """Nothing is lost or done twice."""

    async def test() -> None:
        batcher = Batcher(4, 10_000, LONG)
        for size in (1, 2, 7, 100, 3, 500):
            given, work = recording_work()
            results = await asyncio.gather(*(submit(batcher, work, i) for i in range(size)))
            assert results == [*range(0, 2 * size, 2)]
            assert sorted(given) == [*range(size)]
        batcher.close()

    run(test)
