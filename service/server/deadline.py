"""A time by which something must have happened on a connection."""

import asyncio
from collections.abc import Callable


class Deadline:
    """At most one timer; without one, nothing is expected.

    It refers to nobody while it does not run, so that a connection that is lost is free at once.
    """

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    @property
    def runs(self) -> bool:
        """Whether something is expected, or was, and did not happen."""
        return self._timer is not None

    def start(
        self, loop: asyncio.AbstractEventLoop, seconds: float, missed: Callable[[], None]
    ) -> None:
        """Has `missed` be called after so many seconds, in place of what was to be before."""
        self.stop()
        self._timer = loop.call_later(seconds, missed)

    def stop(self) -> None:
        """Expects nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
