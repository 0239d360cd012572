"""Serves in this process, which is the only one or a worker of a supervisor."""

import ctypes
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socket
from typing import NamedTuple

import uvicorn
from fastapi import FastAPI

from service.api.app import create_app
from service.api.errors import SECURITY_HEADERS
from service.api.rate_limit import RateLimit
from service.observability.logs import configure_logging
from service.observability.metrics import Metrics, Snapshot
from service.server.connections import Connections
from service.server.malloc import return_freed_memory
from service.server.protocol import Protocol
from service.server.shutdown import Server, exit_after_signals, ignore_signals
from service.settings import Settings

REPORT_SECONDS = 1.0
"""How often a worker reports to its supervisor."""

_OTHERS_SECONDS = 1.0
"""How long a scrape waits for the supervisor's answer."""

_RESERVED_DESCRIPTORS = 128
"""Descriptors for the log, pipes, model files, libraries and listening sockets."""

_MAX_BACKLOG = 2048

_PR_SET_PDEATHSIG = 1  # see prctl(2)

_OOM_SCORE_ADJ = 300
"""Counts as so many thousandths of all memory when the kernel chooses a process to kill: more than
the supervisor has, so that even a worker that has just started is chosen before it."""

logger = logging.getLogger(__name__)


class Report(NamedTuple):
    """What a worker tells its supervisor.

    Args:
        started: whether it accepts connections.
        ticks: counter that rises while its event loop runs.
        metrics: its own metrics.
        asks: whether it waits for the metrics of the other workers.
    """

    started: bool
    ticks: int
    metrics: Snapshot
    asks: bool = False


class Link:
    """A worker's connection to its supervisor."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._asked, self._answered = threading.Event(), threading.Event()
        self._others: Snapshot = []

    def report(self, server: Server, metrics: Metrics) -> None:
        """Reports for ever; ends the process when the supervisor has ended."""
        asks = False
        while True:
            try:
                report = Report(server.started, server.ticks, metrics.snapshot(), asks)
                self._connection.send(report)
                if asks:
                    self._others = self._connection.recv()
                    self._answered.set()
            except (OSError, EOFError):
                logger.error("the supervisor has ended, and so does this worker")
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except Exception:
                logger.exception("this worker cannot report to its supervisor")
            asks = self._asked.wait(REPORT_SECONDS)
            if asks:
                self._asked.clear()

    def others(self) -> Snapshot:
        """The metrics of the other workers, including workers that have ended.

        One thread at a time may ask.

        Raises:
            TimeoutError: the supervisor does not answer. Its last answer cannot be used instead:
                counters would seem to fall, which Prometheus takes for a restart.
        """
        self._answered.clear()
        self._asked.set()
        if not self._answered.wait(_OTHERS_SECONDS):
            raise TimeoutError("The metrics of the other workers did not come in time.")
        return self._others


def run_worker(
    settings: Settings, sockets: list[socket], connection: Connection, rate_limit: RateLimit
) -> None:
    """The main function of a worker's process; it exits with 0 after a graceful shutdown."""
    if sys.platform == "linux":
        # `Link.report` cannot end a worker that is stopped or stuck in C code, which would keep the
        # port open. The kernel ends it when the thread that has started this process ends.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _be_killed_first()
    return_freed_memory()
    configure_logging(settings)
    link = Link(connection)
    metrics = Metrics(link.others)
    server = make_server(settings, create_app(settings, metrics=metrics, rate_limit=rate_limit))
    threading.Thread(target=link.report, args=(server, metrics), daemon=True).start()
    serve(server, sockets)


def _be_killed_first() -> None:
    """Has the kernel kill this worker rather than the supervisor when memory runs out."""
    score = Path("/proc/self/oom_score_adj")
    with suppress(OSError):
        score.write_text(str(min(1000, int(score.read_text()) + _OOM_SCORE_ADJ)))


def serve(server: Server, sockets: list[socket]) -> None:
    """Serves until a signal ends the process."""
    ignore_signals()
    exit_after_signals()
    server.run(sockets)


def make_server(
    settings: Settings, app: FastAPI, on_started: Callable[[], None] = lambda: None
) -> Server:
    """A server for the application, with the limits of the settings."""
    most, backlog = _connection_limit(settings.max_connections)
    config = uvicorn.Config(
        app,
        http=partial(Protocol, connections=Connections(settings, most)),  # type: ignore[arg-type]
        backlog=backlog,
        log_config=None,
        log_level=settings.log_level,
        access_log=False,  # the application writes it
        proxy_headers=False,  # the application reads them if `OCR_TRUSTED_PROXIES` is set
        server_header=False,
        headers=list(SECURITY_HEADERS.items()),
        ws="none",
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    return Server(config, settings.drain_seconds, on_started)


def _connection_limit(wanted: int) -> tuple[int, int]:
    """How many connections may be open, and how many may wait to be accepted.

    Every connection needs a descriptor. Waiting connections are accepted, too, before those beyond
    the limit are closed. Raises the soft limit of descriptors if necessary.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _MAX_BACKLOG + _RESERVED_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    free = needed if soft == resource.RLIM_INFINITY else max(soft - _RESERVED_DESCRIPTORS, 8)
    backlog = max(2, min(_MAX_BACKLOG, free // 4))
    limit = min(wanted, free - backlog)
    if limit < wanted:
        logger.warning(
            "at most %d connections instead of OCR_MAX_CONNECTIONS=%d: "
            "the process may open %d files (ulimit -n)",
            limit,
            wanted,
            soft,
        )
    return limit, backlog
