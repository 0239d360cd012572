"""How the log is written: lines to read on a terminal, JSON for what collects them elsewhere."""

import asyncio
import copy
import json
import logging
import select
import sys
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from uvicorn.config import LOGGING_CONFIG
from uvicorn.logging import DefaultFormatter

from service.settings import Settings


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
    """uvicorn's lines; those of requests end with the id and the model."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The line of a record."""
        line = super().formatMessage(record)
        fields = getattr(record, "fields", None)
        if fields is None:
            return line
        ending = [fields["reason"], fields["request_id"], f"model {fields['model_version']}"]
        return " ".join([line, *filter(None, ending)])


class TurnHandler(logging.StreamHandler[TextIO]):
    """Writes the lines of requests that end in one turn of the event loop at once.

    Whoever writes gives the interpreter away and has to wait for it again, which several threads
    want. All else is written there and then, with all that was logged before it. No more lines are
    written at once than a pipe takes undivided.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._lines = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record; that of a request at the latest with the loop's next turn."""
        try:
            line = self.format(record) + self.terminator
            if len(self._lines) + len(line) > select.PIPE_BUF:
                self.flush()
            self._lines += line
            loop = _running_loop() if hasattr(record, "fields") else None
            if loop is None:
                self.flush()
            else:
                loop.call_soon(self._end_turn)
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Writes what has not been written yet."""
        with self.lock or nullcontext():
            lines, self._lines = self._lines, ""
            if lines:
                self.stream.write(lines)
            super().flush()

    def _end_turn(self) -> None:
        if self._lines:
            with suppress(OSError, ValueError):  # nobody reads the log any more
                self.flush()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def log_config(settings: Settings) -> dict[str, Any]:
    """The configuration for `logging.config.dictConfig`; everything goes to standard error."""
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stderr.isatty()
    )
    config = copy.deepcopy(LOGGING_CONFIG)
    config["formatters"]["default"] = (
        {"()": JsonFormatter}
        if as_json
        else {"()": TextFormatter, "fmt": "%(levelprefix)s %(message)s", "use_colors": None}
    )
    config["handlers"]["default"]["class"] = "service.observability.logs.TurnHandler"
    config["loggers"]["service"] = {"handlers": ["default"], "level": settings.log_level.upper()}
    # What these two have to say is that traces could not be exported; and the rest of it, that a
    # client's headers are malformed.
    config["loggers"]["opentelemetry"] = {"handlers": ["default"], "level": "CRITICAL"}
    for part in ("exporter", "sdk"):
        config["loggers"][f"opentelemetry.{part}"] = {"level": "WARNING"}
    # What it has to say is said in the answer, and would be a line of another form.
    config["loggers"]["python_multipart"] = {"level": "CRITICAL"}
    return config
