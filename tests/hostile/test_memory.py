"""Memory after large requests that are refused."""

from collections.abc import Callable

import pytest

from tests.api.bad_items import bad_items
from tests.hostile.process import watched
from tests.hostile.record import record

pytestmark = pytest.mark.hostile

_BODY_BYTES = 8_000_000
_GROWTH = 10_000_000


def test_refused_requests_leave_no_memory_in_use(scaled: Callable[[int, int], int]) -> None:
    """Many large requests of each of ten kinds use at most 10 MB more memory than a few."""
    each = scaled(200, 10)
    growths: dict[str, int] = {}
    with watched(request_seconds=60) as service, service.connected() as connection:

        def send(path: str, headers: dict[str, str], body: bytes, count: int) -> int:
            for _ in range(count):
                connection.request("POST", path, body, headers)
                connection.getresponse().read()
            return service.usage().bytes

        for name, (path, headers, body) in bad_items(_BODY_BYTES, "captcha"):
            settled = send(path, dict(headers), body, 5)
            growths[name] = send(path, dict(headers), body, each) - settled
        assert service.alive
    record("memory", each=each, growth_bytes=growths)
    assert {name: growth for name, growth in growths.items() if growth > _GROWTH} == {}
