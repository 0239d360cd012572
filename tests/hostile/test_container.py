"""All attacks together on a container with little more memory than it needs when idle."""

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.hostile import slow, together
from tests.hostile.container import ROOT, Container, Engine, image, started
from tests.hostile.process import connected, post
from tests.hostile.record import record

pytestmark = [pytest.mark.container, pytest.mark.usefixtures("descriptors")]

TIMES_IDLE = 1.5


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The engine that `.ci/container` also uses."""
    command = ROOT / ".ci" / "engine"
    found = subprocess.run([command], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(found.stderr.strip())
    return Engine(found.stdout.strip())


@pytest.fixture(scope="module")
def built(engine: Engine) -> Iterator[str]:
    """The name of the built image."""
    with image(engine) as name:
        yield name


def assert_reads(container: Container, picture: bytes) -> None:
    """Checks that a good client gets its picture read."""
    seen = together.Seen()
    with connected(container.address) as connection:
        seen.sent("a good picture", lambda: post(connection, picture), (200).__eq__)
    assert seen.wrong == []


def least_used(container: Container, below: float = 0) -> int:
    """The least bytes used within 3 seconds, or within 30 until they are less than `below`."""
    begin = time.monotonic()
    least = container.memory.used()
    while (past := time.monotonic() - begin) < 3 or (least >= below > 0 and past < 30):
        time.sleep(0.1)
        least = min(least, container.memory.used())
    return least


def test_the_service_survives_all_attacks_together_in_little_memory(
    engine: Engine, built: str, normal: bytes, scaled: Callable[[int, int], int]
) -> None:
    """With 1.5 times the idle memory and no swap, nothing is killed, and good clients are served.

    The process that was started keeps running, and answers with no status of 500 or more but 503.
    """
    with started(engine, built) as container:
        assert_reads(container, normal)
        idle = least_used(container)
    limit = int(TIMES_IDLE * idle)
    clients = {way: scaled(full, least) for way, (full, least) in slow.CLIENTS.items()}
    attacks = {
        "bodies": partial(together.bodies, rounds=scaled(6, 1), picture=normal),
        "pictures": partial(together.pictures, rounds=scaled(8, 1)),
        "corpus": partial(together.whole_corpus, rounds=scaled(20, 1)),
        "mutants": partial(together.mutants, count=scaled(20_000, 500)),
        "connections": partial(together.connections, clients=clients, waves=scaled(3, 1)),
    }
    options = [f"--memory={limit}", f"--memory-swap={limit}"]
    with started(engine, built, options) as container:
        assert_reads(container, normal)
        before = container.state
        begin = time.monotonic()
        with container.memory.peak() as peak:
            seen = together.together(container.address, attacks)
        seconds = time.monotonic() - begin
        kills, after = container.memory.oom_kills(), container.state
        statuses = sum((one.statuses for one in seen.values()), Counter[int]())
        wrong = [f"{name}: {what}" for name, one in seen.items() for what in one.wrong]
        record(
            "container",
            idle_bytes=idle,
            limit_bytes=limit,
            peak_bytes=peak[0],
            group_version=container.memory.version,
            killed=after != before or kills != 0,
            clients=sum(clients.values()) * scaled(3, 1),
            answers={name: one.statuses.total() for name, one in seen.items()},
            statuses={str(status): number for status, number in sorted(statuses.items())},
            seconds=seconds,
            wrong=len(wrong),
            settled_bytes=None,
        )
        assert (kills, after["OOMKilled"], after["RestartCount"]) == (0, False, 0)
        assert after == before
        assert wrong == []
        assert {status for status in statuses if status >= 500} <= {together.BUSY}
        assert_reads(container, normal)
        settled = least_used(container, below=limit)
        record("container", settled_bytes=settled)
        assert settled < limit
