"""Which processor a thread that reads runs on, and who goes first there."""

import os
import sys
from contextlib import suppress

_NICER = 5
"""Than the event loop, which so has three times a reader's share of a processor that both want
(sched(7), "The nice value")."""


class Place:
    """The place of the thread that makes it, number `number` of `threads` that read.

    Those are as many as there are processors, and the event loop comes in addition. A reader that
    interrupts it has all others wait, if it has the interpreter at that moment: the event loop goes
    first. And Linux leaves two threads on one processor for milliseconds while the other has
    nothing to do: when all of them read, each keeps to a processor of its own. Where this is not
    possible or not allowed, readers run as they would have.
    """

    def __init__(self, number: int, threads: int) -> None:
        self._kept = False
        self._anywhere = self._own = {0}
        if sys.platform == "linux":
            os.nice(_NICER)  # of this thread alone
            self._anywhere = self._own = os.sched_getaffinity(0)
            if len(self._anywhere) == threads:
                self._own = {sorted(self._anywhere)[number]}

    def keep(self, own: bool) -> None:
        """Has the thread run on its own processor, or on any.

        Where one is free, any is better: the thread's own may be needed for something else.
        """
        if own != self._kept and self._own != self._anywhere:
            self._kept = own
            with suppress(OSError):
                os.sched_setaffinity(0, self._own if own else self._anywhere)
