"""Graceful shutdown: a SIGTERM first turns readiness off, and only then stops the server."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from socket import socket
from types import FrameType

import uvicorn
from typing_extensions import override
from uvicorn.server import HANDLED_SIGNALS

from service.api.routes import DRAINING


class Server(uvicorn.Server):
    """uvicorn's server, which keeps serving for a while after a SIGTERM.

    In that time `/health/ready` answers 503, requests are answered as before, and connections are
    closed after their answers. Load balancers can thus turn away before any request is refused.

    Args:
        drain_seconds: how long it keeps serving.
        on_started: called when the server accepts connections.
    """

    def __init__(
        self, config: uvicorn.Config, drain_seconds: float, on_started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds
        self._on_started = on_started
        self._exit_at: float | None = None
        self.ticks = 0
        """Counter that rises while the event loop runs."""

    @override
    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and self.started and self._exit_at is None:
            draining: asyncio.Event = self.lifespan.state[DRAINING]
            draining.set()
            self._exit_at = time.monotonic() + self._drain_seconds
        else:
            super().handle_exit(sig, frame)

    @override
    async def on_tick(self, counter: int) -> bool:
        self.ticks += 1
        if self._exit_at is not None and time.monotonic() >= self._exit_at:
            super().handle_exit(signal.SIGTERM, None)
        return await super().on_tick(counter)


def ignore_signals() -> None:
    """Ignores signals that have no meaning here, but would end the process and its requests.

    On a terminal, SIGHUP says that the terminal was closed, and ends the service like SIGTERM.
    """
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if number == signal.SIGHUP and sys.stderr.isatty():
            signal.signal(number, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        else:
            signal.signal(number, signal.SIG_IGN)


def exit_after_signals() -> None:
    """Makes the process exit with status 0 when uvicorn repeats the signal after its shutdown.

    With `sys.exit`, a thread that still runs the model would crash the process.
    """
    for number in HANDLED_SIGNALS:
        signal.signal(number, _exit)


def _exit(number: int, frame: FrameType | None) -> None:
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)
