"""No resource grows while the service is used, and the soak finds a leak."""

import os

import pytest

from tests.hostile.leaky import LEAK
from tests.hostile.process import watched
from tests.hostile.record import record
from tests.hostile.soak import Soaked, plain, soak

LEAST_GROWTH = LEAK / 2
"""Bytes per request above which even a short run reports a leak."""

SHORT_SECONDS = 20
MOST_PER_HOUR = 1_000_000


def assert_flat(seen: Soaked) -> None:
    """Descriptors, threads and temporary files do not grow after warm-up."""
    later = seen.usage[len(seen.usage) // 5 :]
    half = len(later) // 2
    for name in ("descriptors", "threads", "temporary_files"):
        first, last = (
            max(getattr(usage, name) for usage in part) for part in (later[:half], later[half:])
        )
        assert last <= first + 2, name  # one or two connections may be open at that moment


@pytest.mark.hostile
@pytest.mark.parametrize("module", ["service", "tests.hostile.leaky"])
def test_a_leak_would_be_found(module: str, normal: bytes) -> None:
    """A short run finds the leak of 1 kB per request, and finds none in the real service."""
    with watched(module, queue_ms=60_000) as service:
        soak(service, normal, SHORT_SECONDS / 4, every=1, load=1, pictures=plain)
        seen = soak(service, normal, SHORT_SECONDS, every=0.25, load=1, pictures=plain)
    growth = seen.bytes_per_request()
    record("leak", **{module: [growth.slope, growth.error, seen.statuses.total()]})
    assert (growth.slope > LEAST_GROWTH) is (module != "service"), growth
    assert_flat(seen)


@pytest.mark.soak
def test_nothing_grows(normal: bytes) -> None:
    """Good, bad and hostile requests together leave nothing behind, memory included."""
    minutes = float(os.environ.get("SOAK_MINUTES") or 30)
    with watched(queue_ms=60_000) as service:
        seen = soak(service, normal, 60 * minutes, every=1)
        assert service.alive
    growth = seen.bytes_per_hour()
    record(
        "soak",
        minutes=minutes,
        requests=seen.statuses.total(),
        statuses={str(status): number for status, number in sorted(seen.statuses.items())},
        bytes_per_hour=[growth.slope, growth.error],
        bytes_by_minute=[usage.bytes for usage in seen.usage[::60]],
        descriptors=[seen.usage[0].descriptors, seen.usage[-1].descriptors],
        threads=[seen.usage[0].threads, seen.usage[-1].threads],
    )
    assert not [status for status in seen.statuses if status != 200 and not 400 <= status < 500]
    assert_flat(seen)
    assert growth.slope - 2 * growth.error < MOST_PER_HOUR
