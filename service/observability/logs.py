"""How the log is written: lines to read on a terminal, JSON for what collects them elsewhere."""

import json
import logging.config
import os
import sys
import threading
import time
from contextlib import suppress
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
"""Written at once, so that a pipe mixes no lines of several workers (PIPE_BUF in pipe(7))."""

_FLUSH_SECONDS = 2
"""How long the exit of the process waits for a log that is not read."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line; the extra `fields` of a record are members in place of a message."""

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
    """uvicorn's lines; those of requests end with the client, its key, the id and the model."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The line of a record."""
        line = super().formatMessage(record)
        fields = getattr(record, "fields", None)
        if fields is None:
            return line
        ending = filter(None, [fields[name] for name in ("reason", "client", "key", "request_id")])
        return " ".join([line, *ending, f"model {fields['model_version']}"])


class QueuedHandler(QueueHandler):
    """Has a thread write lines to standard error: whoever logs never waits for who reads the log.

    Lines that find the queue full are dropped, and counted.

    Args:
        lines: that the queue holds.
    """

    def __init__(self, lines: int = 4096) -> None:
        self._lines: SimpleQueue[str] = SimpleQueue()
        super().__init__(self._lines)
        self._most = lines
        self._queued = self._written = 0
        """Lines so far."""
        self.dropped = 0
        """Lines so far."""
        # No Python stream: its lock would be held while nobody reads, and the exit wait for it.
        self._descriptor = sys.stderr.fileno()
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def prepare(self, record: logging.LogRecord) -> str:
        """The line of a record; the record would keep what its exception refers to."""
        return self.format(record) + "\n"

    def enqueue(self, record: str) -> None:  # type: ignore[override]  # what `prepare` gives
        """Puts a line into the queue, if there is room."""
        if self._queued - self._written >= self._most:
            self.dropped += 1
        else:
            self._queued += 1
            self._lines.put(record)

    def flush(self) -> None:
        """Waits until the lines are written, for a while; called when the process exits."""
        end = time.monotonic() + _FLUSH_SECONDS
        while self._written < self._queued and time.monotonic() < end:
            time.sleep(_COLLECT_SECONDS)

    def _write(self) -> None:
        while True:
            lines = [self._lines.get()]
            # To wake and to write for every line takes 40 µs of a request's CPU time.
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
                with suppress(OSError):  # the reader is gone, or the disk full
                    while rest:
                        rest = rest[os.write(self._descriptor, rest) :]
            self._written += len(lines)


def dropped_lines() -> int:
    """Lines of the log that this process has dropped so far."""
    handlers = logging.getLogger().handlers
    return sum(one.dropped for one in handlers if isinstance(one, QueuedHandler))


def configure_logging(settings: Settings) -> None:
    """Has everything that this process logs written to standard error, as the settings say."""
    logging.config.dictConfig(log_config(settings))
    logging.captureWarnings(True)
    # No line has any of these, and with them it takes half as long again to make a record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.raiseExceptions = False  # what cannot be written is not reported in the same place


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
    # As a factory: of a class, Python 3.12 and newer would make it with a queue of their own.
    config["handlers"] = {"default": {"()": QueuedHandler, "formatter": "default"}}
    # All through the one handler: others write where they are called, and wait there.
    config["root"] = {"handlers": ["default"], "level": "WARNING"}
    config["loggers"] = {"uvicorn": {"level": "INFO"}, "uvicorn.access": {"level": "WARNING"}}
    config["loggers"]["service"] = {"level": settings.log_level.upper()}
    # What these two have to say is that traces could not be exported; and the rest of it, that a
    # client's headers are malformed.
    config["loggers"]["opentelemetry"] = {"level": "CRITICAL"}
    for part in ("exporter", "sdk"):
        config["loggers"][f"opentelemetry.{part}"] = {"level": "WARNING"}
    # What it has to say is said in the answer, and would be a line of another form.
    config["loggers"]["python_multipart"] = {"level": "CRITICAL"}
    return config
