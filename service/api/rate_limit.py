"""Limits the pictures per second of every API key."""

import logging
import math
import mmap
import os
import time
from collections import defaultdict
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any

from service.api.errors import RATE_LIMITED, ProblemError
from service.settings import Settings, named_keys

logger = logging.getLogger(__name__)


class SharedTimes:
    """A time for each name, in memory that is shared with the processes to which it is passed.

    There is no lock: if two processes charge the same name at the same moment, one of the charges
    may be lost.

    Args:
        names: at least one.
        memory: what a new process gets from `__reduce__`; default: new memory, with zeros.

    Raises:
        AttributeError, OSError: the system has no such memory, or none left.
    """

    def __init__(self, names: list[str], memory: Any = None) -> None:
        if memory is None:
            self._descriptor = os.memfd_create("captcha-ocr rate limit")
            os.write(self._descriptor, bytes(8 * len(names)))
        else:
            self._descriptor = memory.detach()
        self._places = {name: place for place, name in enumerate(names)}
        self._times = memoryview(mmap.mmap(self._descriptor, 8 * len(names))).cast("d")

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedTimes, (list(self._places), DupFd(self._descriptor))

    def __getitem__(self, name: str) -> float:
        return self._times[self._places[name]]

    def __setitem__(self, name: str, value: float) -> None:
        self._times[self._places[name]] = value


class RateLimit:
    """Token buckets, one for each key name. A picture takes a token.

    A bucket holds the tokens of one second, and at least one token. The number of pictures in a
    batch is known only after its body is read, so a batch may leave the bucket with a debt. The
    debt is paid before the next request is admitted, so that the average holds.

    Args:
        per_second: pictures per second of each name; 0: there is no limit.
        now: a monotonic clock, in seconds.
        full_at: by name, the time when its bucket is full again; 0 at first. Default: a new
            dictionary.
    """

    def __init__(
        self,
        per_second: float,
        now: Callable[[], float] = time.monotonic,
        full_at: SharedTimes | None = None,
    ) -> None:
        self._rate = per_second
        self._most = max(1.0, per_second)
        self._now = now
        self._full_at = full_at or defaultdict[str, float](float)

    def check(self, name: str) -> None:
        """Checks that there is a token for a request, and takes none: it is called several times.

        Raises:
            ProblemError: there is no token; `Retry-After` says when there will be one.
        """
        missing = self._rate * (self._full_at[name] - self._now())
        if missing > self._most - 1:
            seconds = math.ceil((missing + 1 - self._most) / self._rate)
            detail = f"This API key may have {self._rate:g} pictures read a second, on average."
            raise ProblemError(RATE_LIMITED, detail, {"Retry-After": str(seconds)})

    def charge(self, name: str, pictures: int) -> None:
        """Takes a token for each picture, even if the bucket does not have enough."""
        if self._rate:
            full_at = max(self._now(), self._full_at[name])
            self._full_at[name] = full_at + pictures / self._rate


def shared_rate_limit(settings: Settings) -> RateLimit:
    """A rate limit whose buckets are shared by the processes to which it is passed."""
    full_at = None
    if settings.key_pictures_per_second:
        try:
            full_at = SharedTimes(list({name for name, _ in named_keys(settings.api_keys)}))
        except (AttributeError, OSError) as error:
            logger.warning("each worker allows all of OCR_KEY_PICTURES_PER_SECOND: %s", error)
    return RateLimit(settings.key_pictures_per_second, full_at=full_at)
