"""How the log is written: lines to read on a terminal, JSON for what collects them elsewhere."""

import copy
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

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
    config["loggers"]["service"] = {"handlers": ["default"], "level": settings.log_level.upper()}
    # What it has to say is that traces could not be exported.
    config["loggers"]["opentelemetry"] = {"handlers": ["default"], "level": "WARNING"}
    return config
