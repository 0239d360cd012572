"""What is read of a request part by part."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from service.runtime.batcher import OverloadedError, Pool
from service.runtime.parts import in_parts, in_stages
from tests.service.pools import run


def same(part: Sequence[int]) -> Sequence[int]:
    return part


def tenfold(part: Sequence[int], prepared: Sequence[int], result: Sequence[int]) -> list[int]:
    assert part == prepared == result
    return [10 * item for item in part]


@pytest.mark.parametrize(
    ("threads", "queue_seconds", "ahead", "expected"),
    [(2, 1, True, 3), (2, 1, False, 2), (2, 0.01, True, 2), (7, 1, True, 8)],
)
def test_parts_overlap_and_keep_their_order(
    threads: int, queue_seconds: float, ahead: bool, expected: int
) -> None:
    """As many as there are threads, and one more where it does not wait for long."""

    async def test() -> None:
        on_their_way: set[int] = set()
        most = 0

        async def work(part: Sequence[int]) -> Sequence[int]:
            nonlocal most
            on_their_way.add(part[0])
            most = max(most, len(on_their_way))
            await asyncio.sleep(0.002 + 0.001 * (part[0] % 7))
            on_their_way.remove(part[0])
            return part

        pool = Pool(threads, 4, queue_seconds)
        await pool.run(lambda: time.sleep(0.01), pictures=1)
        given = await in_stages(pool, range(70), same, work, tenfold, ahead=ahead)
        assert given == list(range(0, 700, 10))
        assert most == expected

    run(test)


@pytest.mark.parametrize(
    ("pictures", "threads", "sizes"),
    [(1, 2, [1]), (3, 2, [1, 2]), (8, 2, [4, 4]), (12, 2, [3] * 4), (9, 1, [3] * 3),
     (9, 2, [2, 2, 2, 3]), (64, 2, [4] * 16), (20, 3, [3, 3, 4] * 2), (5, 8, [1] * 5)],
)  # fmt: skip
def test_all_threads_have_as_much_to_do(pictures: int, threads: int, sizes: list[int]) -> None:
    """Four pictures a part at most, and none that is far smaller than the others."""

    async def test() -> None:
        found: list[int] = []

        async def read(part: Sequence[int]) -> Sequence[int]:
            found.append(len(part))
            return part

        assert await in_parts(Pool(threads, 64, 1.0), range(pictures), read) == [*range(pictures)]
        assert found == sizes

    run(test)


def test_a_slow_part_holds_nothing_up() -> None:
    """The other threads read all that is left."""

    async def test() -> None:
        others = 0
        last = asyncio.Event()

        async def read(part: Sequence[int]) -> Sequence[int]:
            nonlocal others
            if part[0] == 0:
                await last.wait()
                return part
            others += 1
            if others == 15:
                last.set()
            return part

        assert await in_parts(Pool(2, 64, 1.0), range(64), read) == [*range(64)]

    run(test)


@pytest.mark.parametrize(("threads", "own"), [(1, 1), (3, 2)])
def test_slow_parts_leave_a_thread_to_others(threads: int, own: int) -> None:
    """Once one has taken longer than a picture may wait; where there is one thread, it goes on."""

    async def test() -> None:
        at_work = 0
        found: list[int] = []

        async def read(part: Sequence[int]) -> Sequence[int]:
            nonlocal at_work
            at_work += 1
            found.append(at_work)
            await asyncio.sleep(0.02)
            at_work -= 1
            return part

        assert await in_parts(Pool(threads, 64, 0.01), range(60), read) == [*range(60)]
        assert found[:threads] == [*range(1, threads + 1)]
        assert max(found[threads:]) == own

    run(test)


@pytest.mark.parametrize("threads", [1, 2])
def test_one_request_alone_is_never_refused(threads: int) -> None:
    """However long its parts take, and whatever was read before."""

    async def test() -> None:
        pool = Pool(threads, 64, 0.01)

        async def work(part: Sequence[int]) -> Sequence[int]:
            return await pool.run(lambda: time.sleep(0.03) or part, pictures=len(part))

        for _ in range(3):
            assert len(await in_stages(pool, range(20), same, work, tenfold)) == 20

    run(test)


def test_the_event_loop_does_much_at_once_but_not_all() -> None:
    """A dozen pictures, and others have their turn; and no more in advance than threads need."""

    async def test() -> None:
        turns = prepared = completed = most = 0
        in_turn: Counter[int] = Counter()

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        def prepare(part: Sequence[int]) -> Sequence[int]:
            nonlocal prepared, most
            prepared += len(part)
            most = max(most, prepared - completed)
            in_turn[turns] += len(part)
            return part

        async def work(part: Sequence[int]) -> Sequence[int]:
            await asyncio.sleep(0.001)
            return part

        def complete(
            part: Sequence[int], prepared: Sequence[int], result: Sequence[int]
        ) -> Sequence[int]:
            nonlocal completed
            completed += len(part)
            in_turn[turns] += len(part)
            return part

        counting = asyncio.create_task(count())
        await asyncio.sleep(0)
        assert len(await in_stages(Pool(2, 64, 1.0), range(640), prepare, work, complete)) == 640
        counting.cancel()
        assert max(in_turn.values()) == 16
        assert set(in_turn.values()) == {16}
        assert most == 32

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
        assert (begun[:2], ended) == ([0, 4], [])
        assert len(begun) < 16

    run(test)
