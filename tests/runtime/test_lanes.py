"""Batches and slow pictures leave threads and turns to other work."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from service.runtime.batcher import BATCH_SIZE, Batcher, OverloadedError
from tests.runtime.work import (
    LONG,
    after,
    begin,
    busy_threads,
    doubled,
    recording_work,
    run,
    submit,
)


@pytest.mark.parametrize(
    ("pictures", "threads", "sizes"),
    [(0, 2, []), (1, 2, [1]), (3, 2, [1, 2]), (8, 2, [4, 4]), (12, 2, [3] * 4), (9, 1, [3] * 3),
     (9, 2, [2, 2, 2, 3]), (64, 2, [4] * 16), (20, 3, [3, 3, 4] * 2), (5, 8, [1] * 5)],
)  # fmt: skip
def test_a_batch_is_shared_by_the_threads(pictures: int, threads: int, sizes: list[int]) -> None:
    """It is divided into parts of nearly the same size, and answered in order."""

    async def test() -> None:
        found: list[int] = []

        def work(items: Sequence[int]) -> list[int]:
            found.append(len(items))
            return doubled(items)

        batcher = Batcher(threads, 64, LONG)
        assert await batcher.submit(work, range(pictures)) == [*range(0, 2 * pictures, 2)]
        assert sorted(found) == sorted(sizes)

    run(test)


def test_single_pictures_have_their_turn_between_parts_of_a_batch() -> None:
    """A picture that comes after a large batch does not wait for all of it."""

    async def test() -> None:
        batcher = Batcher(1, 64, LONG)
        read, work = recording_work()

        async with busy_threads(batcher):
            batch = await begin(batcher.submit(work, range(64)))
            single = await begin(submit(batcher, work, 99))
            assert batcher.waiting == BATCH_SIZE + 1
        assert await single == 198
        assert len(await batch) == 64
        assert read.index(99) == BATCH_SIZE

    run(test)


def test_parts_of_a_batch_may_wait_longer_than_single_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To refuse a part would waste the work for the other parts."""
    monkeypatch.setattr("service.runtime.batcher._MAX_GRACE_SECONDS", LONG)

    async def test() -> None:
        batcher = Batcher(1, 64, 0.01)
        async with busy_threads(batcher):
            batch = await begin(batcher.submit(doubled, range(2)))
            with pytest.raises(OverloadedError):
                await submit(batcher, doubled, 0)
        assert await batch == [0, 2]

    run(test)


def test_single_pictures_do_not_wait_for_many_batches() -> None:
    """Single pictures have every second turn, however many batches wait."""

    async def test() -> None:
        batcher = Batcher(1, 64, LONG)
        read, work = recording_work()

        async with busy_threads(batcher):
            batches = [await begin(batcher.submit(work, range(64))) for _ in range(8)]
            single = await begin(submit(batcher, work, 99))
        assert await single == 198
        assert [len(answers) for answers in await asyncio.gather(*batches)] == [64] * 8
        assert read.index(99) == BATCH_SIZE

    run(test)


def test_waiting_batches_keep_out_only_batches() -> None:
    """Single pictures are admitted, and the batches have their turns between them."""

    async def test() -> None:
        batcher = Batcher(1, 2 * BATCH_SIZE, LONG)
        async with busy_threads(batcher):
            batches = [await begin(batcher.submit(doubled, range(9))) for _ in range(3)]
            batcher.admit()
            singles = [await begin(batcher.submit(doubled, [1])) for _ in range(3)]
            with pytest.raises(OverloadedError):
                batcher.admit(batch=True)
            with pytest.raises(OverloadedError):
                await batcher.submit(doubled, range(2))
        assert await asyncio.gather(*singles) == [[2]] * 3
        assert [len(answers) for answers in await asyncio.gather(*batches)] == [9] * 3
        assert batcher.in_flight == 0
        batcher.admit(batch=True)

    run(test)


def test_slow_pictures_and_batches_take_turns() -> None:
    """Neither keeps the other, or single pictures, from the only thread."""

    async def test() -> None:
        batcher = Batcher(1, 64, LONG)
        calls: list[str] = []

        def work(name: str) -> Callable[[Sequence[int]], Sequence[int]]:
            def record(items: Sequence[int]) -> Sequence[int]:
                calls.append(name)
                return items

            return record

        async with busy_threads(batcher):
            slow = work("slow")
            tasks = [await begin(submit(batcher, slow, 0, slow=True)) for _ in range(3)]
            tasks.append(await begin(batcher.submit(work("batch"), range(3 * BATCH_SIZE))))
            tasks += [await begin(submit(batcher, work("single"), 0)) for _ in range(3)]
        await asyncio.gather(*tasks)
        assert calls[:6] == ["slow", "single", "batch", "single", "slow", "single"]
        assert sorted(calls[6:]) == ["batch", "batch", "slow"]

    run(test)


def test_a_slow_batch_leaves_a_thread_to_others() -> None:
    """Another client's picture is read while the batch blocks all threads that it may use."""

    async def test() -> None:
        batcher = Batcher(2, 64, 10.0)
        batcher.batches.mean_seconds = 10.0
        release = threading.Event()
        slow = after(release)
        batch = await begin(batcher.submit(slow, range(16)))
        assert await submit(batcher, doubled, 1) == 2
        release.set()
        assert len(await batch) == 16

    run(test)


def test_a_slow_part_does_not_delay_the_rest_of_its_batch() -> None:
    """The other thread reads all other parts."""

    async def test() -> None:
        batcher = Batcher(2, 64, LONG)
        rest = threading.Event()
        parts = 0

        def work(items: Sequence[int]) -> list[int]:
            nonlocal parts
            parts += 1
            if 0 in items:
                assert rest.wait(20)
            elif parts == 16:
                rest.set()
            return doubled(items)

        assert len(await batcher.submit(work, range(64))) == 64

    run(test)


def test_the_first_failure_ends_a_batch() -> None:
    """No other part of the batch is begun."""

    async def test() -> None:
        batcher = Batcher(1, 64, LONG)
        begun: list[int] = []

        def work(items: Sequence[int]) -> list[int]:
            begun.extend(items)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await batcher.submit(work, range(64))
        assert set(begun) == {*range(BATCH_SIZE)}
        assert batcher.in_flight == 0

    run(test)


def test_slow_pictures_use_one_thread() -> None:
    """The other thread does other work, however many slow pictures wait."""

    async def test() -> None:
        batcher = Batcher(2, 10, LONG)
        release = threading.Event()
        slow = after(release)
        tasks = [await begin(submit(batcher, slow, i, slow=True)) for i in range(4)]
        assert await submit(batcher, doubled, 1) == 2
        assert await batcher.submit(doubled, range(9)) == [*range(0, 18, 2)]
        assert (batcher.waiting, batcher.in_flight) == (3, 4)
        release.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6]
        assert batcher.in_flight == 0

    run(test)


def test_slow_work_of_other_kinds_uses_one_thread() -> None:
    """Such as patterns that take long to compile, however many are sent."""

    async def test() -> None:
        batcher = Batcher(2, 10, LONG)
        release = threading.Event()
        waits = [await begin(batcher.run(lambda: release.wait(20), slow=True)) for _ in range(4)]
        picture = await begin(submit(batcher, doubled, 3, slow=True))
        assert await submit(batcher, doubled, 1) == 2
        assert not picture.done()
        release.set()
        assert await asyncio.gather(*waits, picture) == [True] * 4 + [6]

    run(test)


def test_other_work_has_its_turn_between_slow_pictures() -> None:
    """Even if there is only one thread."""

    async def test() -> None:
        batcher = Batcher(1, 10, LONG)
        calls: list[str] = []

        def slow(_: Sequence[None]) -> list[None]:
            calls.append("slow")
            return [None]

        async with busy_threads(batcher):
            tasks = [await begin(submit(batcher, slow, None, slow=True)) for _ in range(3)]
            for name in ("first", "second"):
                tasks.append(await begin(batcher.run(partial(calls.append, name))))
        await asyncio.gather(*tasks)
        assert calls == ["slow", "first", "slow", "second", "slow"]

    run(test)


def test_slow_pictures_are_refused_first() -> None:
    """A long wait for slow pictures keeps out slow pictures only."""

    async def test() -> None:
        batcher = Batcher(2, 10, LONG)
        release = threading.Event()
        slow = after(release)
        batcher.slow.mean_seconds = 2 * LONG
        tasks = [await begin(submit(batcher, slow, i, slow=True)) for i in range(2)]
        with pytest.raises(OverloadedError) as refused:
            await submit(batcher, slow, 3, slow=True)
        assert refused.value.retry_seconds >= LONG
        batcher.admit()
        assert await submit(batcher, doubled, 1) == 2
        release.set()
        assert await asyncio.gather(*tasks) == [0, 2]

    run(test)
