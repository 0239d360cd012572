"""How soon those who were refused are heard again."""

import asyncio
import math
from collections import deque
from typing import Protocol

from service.runtime.batcher import Pool

_SECONDS = 0.01
"""Between two looks at those who rest."""

_PARTS = 3
"""At each look, at least one of so many that rest goes on: nobody rests for long."""

_REFUSALS = 16
"""For each picture that is read: more than ten times the load that can be carried makes."""


class Resting(Protocol):
    """A connection on which requests are refused."""

    def rest(self) -> bool:
        """Reads no more, so that what the client sends waits; tells whether it did not rest yet."""

    def go_on(self) -> None:
        """Reads again."""


class Pacing:
    """Has connections rest for some hundredths of a second while too much is refused.

    Clients that ask again as soon as they are refused ask as often as they are answered, however
    few they are: the event loop would have half of a processor for refusals alone. And of what is
    read the slower for that, more is refused, which does not end when the load becomes one that
    could be carried (Bronson et al. 2021, "Metastable Failures in Distributed Systems").

    Args:
        pool: that reads.
    """

    def __init__(self, pool: Pool) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self._resting: deque[tuple[Resting, int]] = deque()
        """And what refusing them costs."""
        self._follows = False
        self._looked = 0.0
        """The event loop's time at the last look."""
        self._going = 0
        """What refusing those who went on then costs, for they are about to ask again."""
        self._refused = 0
        """What was refused since then."""

    def refused(self, connection: Resting, weight: int = 1) -> None:
        """Has a connection rest if need be, on which a request has been refused.

        Args:
            weight: the cost of that, as so many of those that cost the least.
        """
        if not self._follows:
            self._follows = True
            self._look_later()
        self._refused += weight
        if self._refused + self._going > self._bearable() and connection.rest():
            self._resting.append((connection, weight))

    def _look(self) -> None:
        if not self._refused and not self._resting:
            self._follows = False
            return
        bearable, rested = self._bearable(), math.ceil(len(self._resting) / _PARTS)
        self._look_later()
        while self._resting and (rested > 0 or self._going < bearable):
            connection, weight = self._resting.popleft()
            connection.go_on()
            rested -= 1
            self._going += weight

    def _look_later(self) -> None:
        self._looked = self._loop.time()
        self._going = self._refused = 0
        self._loop.call_later(_SECONDS, self._look)

    def _bearable(self) -> int:
        """Refusals since the last look, which may come late, or until the next one."""
        seconds = max(_SECONDS, self._loop.time() - self._looked)
        a_picture = max(self._pool.mean_seconds, 1e-4) / self._pool.threads
        return max(1, round(_REFUSALS * seconds / a_picture))
