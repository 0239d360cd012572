"""The beginning of an orderly end: a SIGTERM first turns readiness off, and only then stops."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STATE = "drain"
"""The key of the lifespan state that holds the `Drain`."""


class Drain:
    """Whether the process is about to end.

    From then on, requests are answered as before and connections closed after them, so that
    balancers and clients turn away before anything is refused.
    """

    def __init__(self) -> None:
        self.begun = False

    @contextmanager
    def before_stopping(self, seconds: float) -> Iterator[None]:
        """Puts so much time before what the server does at a SIGTERM."""
        stop = signal.getsignal(signal.SIGTERM)
        if not callable(stop) or threading.current_thread() is not threading.main_thread():
            yield  # no server is there to be stopped: a test runs the application by itself
            return
        loop = asyncio.get_running_loop()

        def begin(number: int, frame: FrameType | None) -> None:
            self.begun = True
            loop.call_soon_threadsafe(loop.call_later, seconds, stop, number, frame)

        signal.signal(signal.SIGTERM, begin)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, stop)
