"""Starts workers, and replaces a worker that dies or hangs."""

import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from socket import socket
from types import FrameType

from uvicorn.config import STARTUP_FAILURE

from service.api.rate_limit import RateLimit, shared_rate_limit
from service.observability.metrics import Snapshot, merge
from service.server.shutdown import ignore_signals
from service.server.worker import REPORT_SECONDS, Report, run_worker
from service.settings import Settings

_MAX_DELAY_SECONDS = 30
"""Longest delay before the next start, after workers that died before they were ready."""

_EXIT_SECONDS = 5
"""How long a worker may take to exit, in addition to the times in the settings."""

_WAIT_SECONDS = 0.2
"""Longest time until the supervisor sees a signal, and that its first worker is ready."""

_SIGNAL_NAMES = {one.value: one.name for one in signal.Signals}

logger = logging.getLogger(__name__)


class _Worker:
    """A worker process and its last report.

    A thread receives the reports. The supervisor itself must not wait for a worker, which may be
    stopped in the middle of a report.

    Args:
        others: gives the metrics of the workers other than this one.
    """

    def __init__(
        self,
        settings: Settings,
        sockets: list[socket],
        rate_limit: RateLimit,
        others: Callable[["_Worker"], Snapshot],
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._others = others
        self.process: SpawnProcess = context.Process(
            target=run_worker, args=(settings, sockets, theirs, rate_limit)
        )
        self.report = Report(False, 0, [])
        self.looks = 0
        """Checks by the supervisor since it last saw progress. Counted in checks, not in seconds,
        since a machine that sleeps stops both the supervisor and the worker."""
        self._receiver = threading.Thread(target=self._receive, daemon=True)
        self._receiver.start()  # first: without it, nobody would know of the process
        try:
            self.process.start()
        finally:
            theirs.close()

    def kill(self) -> None:
        """Ends the process, if it still runs, and receives the reports that it has sent."""
        self.process.kill()
        self.process.join()
        self._receiver.join(_EXIT_SECONDS)

    def _receive(self) -> None:
        with suppress(OSError, EOFError):  # the worker has ended
            while True:
                report: Report = self._connection.recv()
                if report.ticks > self.report.ticks or report.started > self.report.started:
                    self.looks = 0
                self.report = report
                if report.asks:
                    self._connection.send(self._others(self))


class Supervisor:
    """Runs `OCR_WORKERS` processes that share listening sockets.

    Args:
        on_started: called when the first worker accepts connections.
    """

    def __init__(
        self, settings: Settings, sockets: list[socket], on_started: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._sockets = sockets
        self._rate_limit = shared_rate_limit(settings)
        self._on_started = on_started
        self._workers: list[_Worker] = []
        self._ended: Snapshot = []
        """Metrics of workers that have ended."""
        self._lock = threading.Lock()
        """Held while `_workers` and `_ended` change together, so that no worker's metrics are
        missing or counted twice."""
        self._signals = 0
        self._ready = False
        self._failures = 0
        """How many workers in a row died before they were ready."""
        self._start_at = 0.0

    def run(self) -> int:
        """Serves until a signal ends it.

        Returns:
            The exit status; not 0 if no worker could start.
        """
        ignore_signals()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        status = 0
        try:
            look_at = 0.0
            while not self._signals and not status:
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + REPORT_SECONDS
                    status = self._look()
                processes = {worker.process.sentinel: worker.process for worker in self._workers}
                for ending in wait(list(processes), _WAIT_SECONDS):
                    processes[ending].join(_EXIT_SECONDS)  # type: ignore[index]
                    look_at = 0.0
                if not self._ready and any(worker.report.started for worker in self._workers):
                    self._ready = True
                    self._on_started()
        finally:
            self._end_workers()
        return status

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _others(self, worker: _Worker) -> Snapshot:
        with self._lock:
            others = [one.report.metrics for one in self._workers if one is not worker]
            return merge([self._ended, *others])

    def _look(self) -> int:
        """Replaces workers that died or hang. Returns 0, or the exit status if none can start."""
        for worker in [*self._workers]:
            worker.looks += 1
            reason = self._reason_to_replace(worker)
            if reason is None:
                continue
            worker.kill()
            with self._lock:
                self._workers.remove(worker)
                self._ended = merge([self._ended, worker.report.metrics], ended=True)
            logger.error("worker [%d] %s", worker.process.pid, reason)
            # Any other worker serves, is about to, or will itself fail.
            if worker.process.exitcode == STARTUP_FAILURE and not self._workers:
                # Otherwise clients would wait for answers that never come.
                logger.error("no worker can start: the service ends")
                return STARTUP_FAILURE
            self._start_later(0 if worker.report.started else self._failures + 1)
        while len(self._workers) < self._settings.workers and time.monotonic() >= self._start_at:
            try:
                worker = _Worker(self._settings, self._sockets, self._rate_limit, self._others)
                self._workers.append(worker)
            except (OSError, RuntimeError) as error:  # too many processes, threads or open files
                logger.error("no worker can be started: %s", error)
                self._start_later(self._failures + 1)
        return 0

    def _start_later(self, failures: int) -> None:
        """Delays the next start; the delay grows with the number of failures in a row."""
        self._failures = failures
        delay = min(_MAX_DELAY_SECONDS, 2**failures - 1)
        self._start_at = time.monotonic() + delay
        logger.info("another worker starts in %d s", delay)

    def _reason_to_replace(self, worker: _Worker) -> str | None:
        code = worker.process.exitcode
        if code is not None:
            if code >= 0:
                return f"has exited with status {code}"
            return f"was killed by {_SIGNAL_NAMES.get(-code, f'signal {-code}')}"
        if worker.report.started:
            seconds = self._settings.worker_timeout_seconds
            reason = "did not respond for OCR_WORKER_TIMEOUT_SECONDS"
        else:
            seconds = self._settings.worker_start_seconds
            reason = "was not ready within OCR_WORKER_START_SECONDS"
        return f"{reason}={seconds:g}" if worker.looks * REPORT_SECONDS > seconds else None

    def _end_workers(self) -> None:
        """Ends all workers gracefully, or at once after a second signal."""
        for one in self._sockets:
            one.close()  # otherwise clients would wait in a queue that nobody serves
        for worker in self._workers:
            worker.process.terminate()
        signals = self._signals
        settings = self._settings
        end = time.monotonic() + settings.drain_seconds + settings.shutdown_seconds + _EXIT_SECONDS
        while any(worker.process.is_alive() for worker in self._workers):
            if time.monotonic() > end or self._signals > signals:
                logger.error("workers that have not ended in time are killed")
                for worker in self._workers:
                    worker.process.kill()
            wait([worker.process.sentinel for worker in self._workers], 0.1)
