"""Limits the pictures per second of every API key."""

import math
import time
from collections.abc import Callable

from service.api.errors import RATE_LIMITED, ProblemError


class RateLimit:
    """Token buckets, one for each key name. A picture takes a token.

    A bucket holds the tokens of one second, and at least one token. The number of pictures in a
    batch is known only after its body is read, so a batch may leave the bucket with a debt. The
    debt is paid before the next request is admitted, so that the average holds.

    Args:
        per_second: pictures per second of each name; 0: there is no limit.
        now: a monotonic clock, in seconds.
    """

    def __init__(self, per_second: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_second
        self._most = max(1.0, per_second)
        self._now = now
        self._full_at: dict[str, float] = {}
        """By name, the time when its bucket is full again."""

    def check(self, name: str) -> None:
        """Checks that there is a token for a request, and takes none: it is called several times.

        Raises:
            ProblemError: there is no token; `Retry-After` says when there will be one.
        """
        missing = self._rate * (self._full_at.get(name, 0.0) - self._now())
        if missing > self._most - 1:
            seconds = math.ceil((missing + 1 - self._most) / self._rate)
            detail = f"This API key may have {self._rate:g} pictures read a second, on average."
            raise ProblemError(RATE_LIMITED, detail, {"Retry-After": str(seconds)})

    def charge(self, name: str, pictures: int) -> None:
        """Takes a token for each picture, even if the bucket does not have enough."""
        if self._rate:
            full_at = max(self._now(), self._full_at.get(name, 0.0))
            self._full_at[name] = full_at + pictures / self._rate
