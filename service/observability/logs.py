"""Writes the log: as text on a terminal, as JSON for log collectors elsewhere."""

import json
import logging.config
import os
import sys
import threading
import time
from datetime import UTC, datetime
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any

from uvicorn.logging import DefaultFormatter

from service.settings import Settings

_TEXT = "%(asctime)s %(levelprefix)s %(message)s"
_TEXT_TIME = "%Y-%m-%dT%H:%M:%S%z"
_COLLECT_SECONDS = 0.01
_ATOMIC_BYTES = 4096
"""Most bytes of one write. Up to this size, a pipe does not mix the lines of several workers
(PIPE_BUF in pipe(7))."""

_FLUSH_SECONDS = 2
"""How long the process waits at its exit for a log that nobody reads."""


class JsonFormatter(logging.Formatter):
    """One JSON object per line. A record's extra `fields` become members instead of a message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields = getattr(record, "fields", None)
        line |= {"message": record.getMessage()} if fields is None else fields
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextFormatter(DefaultFormatter):
    """uvicorn's format. Lines for requests end with client, name of the key, id and model."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The line of a record."""
        line = super().formatMessage(record)
        fields = getattr(record, "fields", None)
        if fields is None:
            return line
        ending = filter(None, [fields[name] for name in ("reason", "client", "key", "request_id")])
        return " ".join([line, *ending, f"model {fields['model_version']}"])


class QueuedHandler(QueueHandler):
    """Writes lines to standard error in a thread, so that logging never waits for the log's reader.

    Lines are dropped and counted while the queue is full, and if they cannot be written.

    Args:
        max_lines: most lines in the queue.
    """

    def __init__(self, max_lines: int = 4096) -> None:
        self._lines: SimpleQueue[str] = SimpleQueue()
        super().__init__(self._lines)
        self._max_lines = max_lines
        self._queued = self._written = 0
        """Lines queued and written so far."""
        self.dropped = 0
        """Lines dropped so far."""
        # Not a Python stream: while nobody reads, its lock is held, and the exit would wait for it.
        self._descriptor = sys.stderr.fileno()
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def prepare(self, record: logging.LogRecord) -> str:
        """The line of a record. The record itself would keep alive what its exception refers to."""
        return self.format(record) + "\n"

    def enqueue(self, record: str) -> None:  # type: ignore[override]  # from `prepare`
        """Puts a line into the queue, if there is room."""
        if self._queued - self._written >= self._max_lines:
            self.dropped += 1
        else:
            self._queued += 1
            self._lines.put(record)

    def flush(self) -> None:
        """Waits a while until all lines are written; called when the process exits."""
        end = time.monotonic() + _FLUSH_SECONDS
        while self._written < self._queued and time.monotonic() < end:
            time.sleep(_COLLECT_SECONDS)

    def _write(self) -> None:
        cut = False  # whether the last line is only written in part
        while True:
            lines = [self._lines.get()]
            # Waking up and writing for every single line takes 40 µs of CPU time per request.
            time.sleep(_COLLECT_SECONDS)
            while not self._lines.empty():
                lines.append(self._lines.get())
            parts = [b""]
            for line in lines:
                data = line.encode(errors="backslashreplace")
                if len(parts[-1]) + len(data) > _ATOMIC_BYTES:
                    parts.append(b"")
                parts[-1] += data
            for rest in parts:
                try:
                    if cut:
                        os.write(self._descriptor, b"\n")
                        cut = False
                    while rest:
                        written = os.write(self._descriptor, rest)
                        cut = rest[:written][-1:] != b"\n"
                        rest = rest[written:]
                except OSError:  # the reader is gone, or the disk is full
                    self.dropped += rest.count(b"\n")
            self._written += len(lines)


def dropped_lines() -> int:
    """Lines of the log that this process has dropped so far."""
    handlers = logging.getLogger().handlers
    return sum(one.dropped for one in handlers if isinstance(one, QueuedHandler))


def configure_logging(settings: Settings) -> None:
    """Configures logging for this process: everything goes to standard error."""
    logging.config.dictConfig(log_config(settings))
    logging.captureWarnings(True)
    # The log shows none of these, and collecting them makes a record take 1.5 times as long.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.raiseExceptions = False  # a failed write cannot be reported on the same stream


def log_config(settings: Settings) -> dict[str, Any]:
    """The configuration for `logging.config.dictConfig`; everything goes to standard error."""
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stderr.isatty()
    )
    text = {
        "()": TextFormatter,
        "fmt": _TEXT,
        "datefmt": _TEXT_TIME,
        "use_colors": sys.stderr.isatty(),
    }
    config: dict[str, Any] = {"version": 1, "disable_existing_loggers": False}
    config["formatters"] = {"default": {"()": JsonFormatter} if as_json else text}
    # As a factory ("()"): for a "class", Python 3.12 and newer would pass a queue of their own.
    config["handlers"] = {"default": {"()": QueuedHandler, "formatter": "default"}}
    # All loggers share this handler: other handlers write, and wait, in the calling thread.
    config["root"] = {"handlers": ["default"], "level": "WARNING"}
    config["loggers"] = {"uvicorn": {"level": "INFO"}, "uvicorn.access": {"level": "WARNING"}}
    config["loggers"]["service"] = {"level": settings.log_level.upper()}
    # Two of its loggers report traces that could not be exported. The others report only malformed
    # headers of clients.
    config["loggers"]["opentelemetry"] = {"level": "CRITICAL"}
    for part in ("exporter", "sdk"):
        config["loggers"][f"opentelemetry.{part}"] = {"level": "WARNING"}
    # The answer reports the same errors; its lines would have another format.
    config["loggers"]["python_multipart"] = {"level": "CRITICAL"}
    return config
