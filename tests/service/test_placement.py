"""Threads that read run beside the event loop, each on a processor of its own if all of them do."""

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from service.runtime.batcher import Pool
from service.runtime.placement import Place
from tests.service.pools import busy, run

T = TypeVar("T")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="of Linux' scheduler")


def in_a_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def processors() -> set[int]:
    """Those that the calling thread may run on."""
    return os.sched_getaffinity(0)


def test_a_reader_keeps_to_its_own_processor_or_to_none() -> None:
    """As it is told, and one for each of them."""
    everywhere = processors()

    def places_of(number: int) -> list[set[int]]:
        place = Place(number, len(everywhere))
        seen = [processors()]
        for own in (True, True, False):
            place.keep(own)
            seen.append(processors())
        return seen

    seen = [in_a_thread(lambda n=number: places_of(n)) for number in range(len(everywhere))]
    assert [each[1] for each in seen] == [{cpu} for cpu in sorted(everywhere)]
    for before, kept, still, after in seen:
        assert kept == still
        assert before == after == everywhere
    assert processors() == everywhere


@pytest.mark.parametrize("more", [-1, 1])
def test_readers_that_are_not_as_many_as_processors(more: int) -> None:
    """The scheduler knows best where they run."""

    def kept() -> set[int]:
        Place(0, len(processors()) + more).keep(own=True)
        return processors()

    assert in_a_thread(kept) == processors()


def test_the_event_loop_goes_first() -> None:
    """A reader is nicer than the thread that started it, however nice that is."""

    def nicer() -> tuple[int, int, int]:
        before = os.nice(3)
        Place(0, 1)
        return before, in_a_thread(lambda: (Place(0, 1), os.nice(0))[1]), os.nice(0)

    own = os.nice(0)
    before, inner, reader = in_a_thread(nicer)
    assert own <= before <= reader <= inner <= 19
    assert inner == min(19, own + 13)
    assert os.nice(0) == own


def test_a_system_that_does_not_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers run all the same."""

    def forbidden(*arguments: object) -> None:
        raise PermissionError

    threads = len(processors())
    for name in ("sched_setaffinity", "sched_getaffinity", "nice"):
        monkeypatch.setattr(os, name, forbidden)
        in_a_thread(lambda: Place(0, threads).keep(own=True))
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "sched_setaffinity")
    monkeypatch.delattr(os, "sched_getaffinity")
    in_a_thread(lambda: Place(0, 1).keep(own=True))


def test_processors_that_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's may be changed while it runs; what counts are those of the process by then."""
    everywhere = {3, 5}
    confined: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: everywhere)
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, to: confined.append(to))
    place = in_a_thread(lambda: Place(1, 2))
    place.keep(own=True)
    everywhere = {5, 8}
    place.keep(own=False)
    place.keep(own=True)
    everywhere = {0, 1, 2}
    place.keep(own=False)
    place.keep(own=True)
    assert confined == [{5}, {5, 8}, {8}, {0, 1, 2}]


def test_the_last_of_a_pool_that_is_busy_keeps_to_its_own_processor() -> None:
    """And the next one runs where it likes, when another has nothing to do."""

    async def test() -> None:
        everywhere = processors()
        pool = Pool(len(everywhere), 10, 60.0)
        async with busy(pool, len(everywhere) - 1):
            await asyncio.sleep(0.1)
            assert len(await pool.run(processors, pictures=1)) == 1
        for _ in range(5):
            assert await pool.run(processors, pictures=1) == everywhere
        pool.close()

    run(test)
