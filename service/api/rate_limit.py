"""A limit of pictures a second for every API key."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from service.api.errors import RATE_LIMITED, ProblemError


class _Bucket(NamedTuple):
    tokens: float
    at: float


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
        self._buckets: dict[str, _Bucket] = {}

    def check(self, name: str) -> None:
        """Lets a request pass if there is a token for it.

        Raises:
            ProblemError: there is none; its `Retry-After` says when there is one again.
        """
        if not self._rate:
            return
        tokens = self._tokens(name)
        if tokens < 1:
            seconds = math.ceil((1 - tokens) / self._rate)
            detail = f"This API key may have {self._rate:g} pictures read a second, on average."
            raise ProblemError(RATE_LIMITED, detail, {"Retry-After": str(seconds)})

    def charge(self, name: str, pictures: int) -> None:
        """Takes the tokens of pictures, whether they are there or not."""
        if self._rate:
            self._buckets[name] = _Bucket(self._tokens(name) - pictures, self._now())

    def _tokens(self, name: str) -> float:
        now = self._now()
        bucket = self._buckets.get(name, _Bucket(self._most, now))
        return min(self._most, bucket.tokens + (now - bucket.at) * self._rate)
