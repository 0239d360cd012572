"""Errors of training; their texts are written for the user.

TrainingError
├── DataError
├── ConfigError
├── RunError
└── ExportError
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class TrainingError(Exception):
    """Base of the errors that training raises on purpose."""


class DataError(TrainingError):
    """The pictures or labels cannot be used."""


class ConfigError(TrainingError):
    """A setting is unknown, of the wrong type, or out of range."""


class RunError(TrainingError):
    """A run's folder is missing or lacks what is asked of it."""


class ExportError(TrainingError):
    """The exported model did not pass a check; the old model was left in place."""


@contextmanager
def reported() -> Iterator[None]:
    """Ends a command with one sentence and exit status 1 instead of a traceback."""
    from service.ocr.exceptions import OcrError, printable

    try:
        yield
    except (TrainingError, OcrError, OSError) as error:  # such as a full disk
        lines = map(printable, str(error).splitlines())
        print("error:", "\n".join(lines), file=sys.stderr)
        raise SystemExit(1) from None
