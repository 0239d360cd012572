"""Very many PNGs that are nearly valid."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hostile.mutation import Mutator
from tests.hostile.process import post, watched
from tests.hostile.record import record

pytestmark = pytest.mark.hostile

SEED = 5
CLIENTS = 2


def test_no_mutant_makes_the_service_fail(normal: bytes, scaled: Callable[[int, int], int]) -> None:
    """Each mutant is read or refused. Afterwards the service reads a normal picture."""
    mutants = Mutator(SEED)
    count = scaled(100_000, 2000)
    statuses: Counter[int] = Counter()
    seconds: list[float] = []
    wrong: list[tuple[int, int, bytes]] = []
    with watched(queue_ms=60_000, request_seconds=60) as service:

        def send(first: int) -> None:
            with service.connected() as connection:
                for number in range(first, count, CLIENTS):
                    picture = mutants.mutant(number)
                    begin = time.perf_counter()
                    status, answer = post(connection, picture)
                    seconds.append(time.perf_counter() - begin)
                    statuses[status] += 1
                    if status != 200 and not 400 <= status < 500:
                        wrong.append((number, status, answer))

        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(send, range(CLIENTS)))
        with service.connected() as connection:
            assert post(connection, normal)[0] == 200
        assert service.alive
    seconds.sort()
    record(
        "mutants",
        seed=SEED,
        mutants=count,
        statuses={str(status): number for status, number in sorted(statuses.items())},
        p999_ms=1000 * seconds[int(0.999 * len(seconds))],
        wrong=len(wrong),
    )
    assert wrong == []
    # Mutants that are all read, or all refused, would be a poor attack.
    assert 0.02 < statuses[200] / count < 0.98


def test_mutants_are_the_same_for_a_seed() -> None:
    """A mutant that failed can be made again by its number. Another seed gives other mutants."""
    first, again, other = Mutator(1), Mutator(1), Mutator(2)
    made = [first.mutant(number) for number in range(200)]
    assert [again.mutant(number) for number in reversed(range(200))] == made[::-1]
    assert [other.mutant(number) for number in range(200)] != made
    assert len(set(made)) > 190
