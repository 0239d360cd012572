"""A limit of pictures a second for every API key."""

import math
import time
from collections.abc import Callable

from service.api.errors import RATE_LIMITED, ProblemError


class RateLimit:
    """Token buckets, one for each name of a key. A picture takes a token.

    A bucket holds the tokens of one second, and one at least. The pictures of a batch are known
    after its body only: they may leave the bucket with a debt, which is paid before the next
    request, so that the average holds.

    Args:
        per_second: pictures of each name; 0: there is no limit.
        now: a monotonic clock, in seconds.
    """

    def __init__(self, per_second: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_second
        self._most = max(1.0, per_second)
        self._now = now
        self._full_at: dict[str, float] = {}
        """When the bucket of each name is full again."""

    def check(self, name: str) -> None:
        """Lets a request pass if there is a token for it.

        Raises:
            ProblemError: there is none; its `Retry-After` says when there is one again.
        """
        missing = self._rate * (self._full_at.get(name, 0.0) - self._now())
        if missing > self._most - 1:
            seconds = math.ceil((missing + 1 - self._most) / self._rate)
            detail = f"This API key may have {self._rate:g} pictures read a second, on average."
            raise ProblemError(RATE_LIMITED, detail, {"Retry-After": str(seconds)})

    def charge(self, name: str, pictures: int) -> None:
        """Takes the tokens of pictures, whether they are there or not."""
        if self._rate:
            full_at = max(self._now(), self._full_at.get(name, 0.0))
            self._full_at[name] = full_at + pictures / self._rate
