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
    nothing to do: a reader that begins while all others read keeps to a processor of its own. Where
    this is not possible or not allowed, readers run as they would have.
    """

    def __init__(self, number: int, threads: int) -> None:
        self._number = number
        self._threads = threads
        self._kept = False
        if sys.platform == "linux":
            with suppress(OSError):
                os.nice(_NICER)  # of this thread alone

    def keep(self, own: bool) -> None:
        """Has the thread run on its own processor, or on any.

        Where one is free, any is better: the thread's own may be needed for something else.
        """
        if own != self._kept:
            with suppress(AttributeError, OSError):
                self._keep(own)

    def _keep(self, own: bool) -> None:
        # Those of the main thread, which keeps to none: they may be others than a moment ago.
        processors = os.sched_getaffinity(os.getpid())
        if own and len(processors) != self._threads:
            return
        os.sched_setaffinity(0, {sorted(processors)[self._number]} if own else processors)
        self._kept = own
