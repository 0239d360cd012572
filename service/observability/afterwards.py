"""What is done about requests once they have been answered: for many of them in a row.

One by one it takes twice the time, for what it takes to do it, each call of the model drives out of
a processor's caches.
"""

import asyncio
import logging
from collections.abc import Callable

from service.runtime.predictor import IN_A_ROW

_SECONDS = 0.05
"""What is done comes this much later at most."""

logger = logging.getLogger(__name__)


class Afterwards:
    """Work that nobody waits for; use it from one event loop only."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, work: Callable[[], None]) -> None:
        """Has it done soon."""
        self._waiting.append(work)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SECONDS, self.run)
        if len(self._waiting) == IN_A_ROW:
            asyncio.get_running_loop().call_soon(self.run)  # when the answers have been sent

    def run(self) -> None:
        """Does now what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            try:
                work()
            except Exception:
                logger.exception("what was to be done afterwards failed")
