"""Pictures that were made to do harm, and their cost to the service."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.ocr.preprocessing import DEFAULT_MAX_PIXELS, MAX_SIDE
from tests.hostile import pictures
from tests.hostile.process import Watched, post, watched
from tests.hostile.record import record

pytestmark = pytest.mark.hostile

DEARER = 2.0
"""Times the CPU time of reading a normal picture that refusing one may cost."""

GROWTH = 20_000_000
ROUNDS = 5
"""In which normal and hostile pictures are sent in turn, so that both see the same machine."""


@pytest.fixture(scope="module")
def service() -> Iterator[Watched]:
    """One that refuses nothing for being busy: what is looked at here is the pictures."""
    with watched(queue_ms=60_000, request_seconds=60) as service:
        yield service


def cpu_of(service: Watched, picture: bytes, count: int, status: int) -> float:
    """CPU seconds of each of so many requests."""
    before = service.usage().cpu_seconds
    with service.connected() as connection:
        for _ in range(count):
            assert post(connection, picture)[0] == status
    return (service.usage().cpu_seconds - before) / count


def test_refusing_is_cheap(
    service: Watched, normal: bytes, some: Callable[[int, int], int]
) -> None:
    """What looks small and would cost much is refused for little more than a picture costs."""
    each = some(30, 15)  # of fewer, the clock of CPU time, which ticks every 10 ms, sees too little
    hostile = list(pictures.refused(DEFAULT_MAX_PIXELS, MAX_SIDE))
    cpu_of(service, normal, 5 * each, 200)
    for _, picture, status in hostile:
        cpu_of(service, picture, 1, status)
    service.forget_peak()
    before = service.usage().bytes
    base = 0.0
    costs = dict.fromkeys((name for name, _, _ in hostile), 0.0)
    for _ in range(ROUNDS):
        base += cpu_of(service, normal, each, 200) / ROUNDS
        for name, picture, status in hostile:
            costs[name] += cpu_of(service, picture, each, status) / ROUNDS
    growth = service.peak_bytes() - before
    record(
        "pictures",
        normal_cpu_ms=1000 * base,
        refused_cpu_ms={name: 1000 * cost for name, cost in costs.items()},
        refused_each=each * ROUNDS,
        peak_growth_bytes=growth,
    )
    assert {name: cost / base for name, cost in costs.items() if cost > DEARER * base} == {}
    assert growth < GROWTH
    assert service.alive


def test_fifty_megapixels_twenty_times_at_once(service: Watched, normal: bytes) -> None:
    """Twenty clients who send it together get no more memory out of the service than one."""
    bomb = pictures.of_sides(10_000, 5_000)
    assert len(bomb) < 50_000
    with ThreadPoolExecutor(20) as clients:
        list(clients.map(lambda _: cpu_of(service, normal, 1, 200), range(20)))
        service.forget_peak()
        before = service.usage().bytes
        list(clients.map(lambda _: cpu_of(service, bomb, 3, 413), range(20)))
    growth = service.peak_bytes() - before
    record("pictures", together_peak_growth_bytes=growth)
    assert growth < GROWTH
    assert service.alive


def test_the_largest_that_are_allowed(service: Watched) -> None:
    """Just within the bounds they are read."""
    with service.connected() as connection:
        for name, picture in pictures.allowed(DEFAULT_MAX_PIXELS, MAX_SIDE):
            status, answer = post(connection, picture)
            assert status == 200, (name, answer)


def test_a_corpus_of_pictures(service: Watched) -> None:
    """Every kind of PNG is read; broken ones, and other formats, are refused with a reason."""
    counts: Counter[str] = Counter()
    wrong = []
    with service.connected() as connection:
        for group, name, picture, expected in pictures.corpus():
            status, answer = post(connection, picture)
            counts[group] += 1
            if status not in expected or (status != 200 and not json.loads(answer)["detail"]):
                wrong.append((group, name, status, answer))
    record("corpus", **counts, wrong=len(wrong))
    assert wrong == []
    assert service.alive
