"""Who has a processor first at more load than can be carried: those who read."""

import asyncio
import os
from contextlib import suppress

_SECONDS = 0.1
"""How long the event loop defers after it was last asked to."""


class Deference:
    """Lets the threads that read go on while the event loop has others to refuse.

    A thread that wakes may take the processor from one that runs. So the event loop would interrupt
    the reading of a picture for every request that arrives, and at ten times the load that can be
    carried, a seventh of what could be read is not. By the policy SCHED_BATCH (sched(7), Linux) it
    waits for its turn, some milliseconds. Where nobody is refused, all answers would be that late.

    Everything here is called in the event loop's thread.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked = False
        self.defers = False
        """Whether the event loop has others to refuse at the moment."""

    def ask(self) -> None:
        """Has the event loop defer for a moment from now on."""
        self._asked = True
        if not self.defers:
            self._follow()

    def _follow(self) -> None:
        self._asked, asked = False, self._asked
        if asked != self.defers:
            self.defers = asked
            _interrupt(not asked)
        if asked:
            self._loop.call_later(_SECONDS, self._follow)


def _interrupt(may: bool) -> None:
    """Whether this thread may interrupt others when it wakes; where the system lets it choose."""
    with suppress(AttributeError, OSError):
        policy = os.SCHED_OTHER if may else os.SCHED_BATCH
        os.sched_setscheduler(0, policy, os.sched_param(0))
