"""Pictures that are made to harm the service, and what they cost it."""

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

MAX_COST = 2.0
"""The most CPU time that a refusal may take, relative to reading a normal picture."""

GROWTH = 20_000_000
ROUNDS = 5
"""Normal and hostile pictures are sent in turn, so that both are measured at the same load."""


@pytest.fixture(scope="module")
def service() -> Iterator[Watched]:
    """A service that refuses no picture for being busy."""
    with watched(queue_ms=60_000, request_seconds=60) as service:
        yield service


def cpu_of(service: Watched, picture: bytes, count: int, status: int) -> float:
    """The mean CPU seconds per request, of `count` requests with the picture."""
    before = service.usage().cpu_seconds
    with service.connected() as connection:
        for _ in range(count):
            assert post(connection, picture)[0] == status
    return (service.usage().cpu_seconds - before) / count


def test_refusing_is_cheap(
    service: Watched, normal: bytes, scaled: Callable[[int, int], int]
) -> None:
    """Small files that are costly to read are refused at little more than the cost of a picture."""
    each = scaled(30, 15)  # fewer take too few ticks, of 10 ms, of the CPU clock
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
    assert {name: cost / base for name, cost in costs.items() if cost > MAX_COST * base} == {}
    assert growth < GROWTH
    assert service.alive


def test_fifty_megapixels_from_twenty_clients_at_once_take_no_more_memory(
    service: Watched, normal: bytes
) -> None:
    """Twenty clients that send them together take no more memory of the service than one."""
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


def test_the_largest_allowed_pictures_are_read(service: Watched) -> None:
    """These pictures are just within the limits."""
    with service.connected() as connection:
        for name, picture in pictures.allowed(DEFAULT_MAX_PIXELS, MAX_SIDE):
            status, answer = post(connection, picture)
            assert status == 200, (name, answer)


def test_every_picture_of_the_corpus_is_read_or_refused_as_expected(service: Watched) -> None:
    """Valid pictures are read. Broken PNGs and other formats are refused with a reason."""
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
