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

_LONGEST_SHOWN = 1000


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


def shortened(text: str) -> str:
    """The text, or its beginning where it is very long, as a label of a wrong table may be."""
    more = len(text) - _LONGEST_SHOWN
    return text if more <= 0 else f"{text[:_LONGEST_SHOWN]} … and {more} more characters"


@contextmanager
def reported() -> Iterator[None]:
    """Ends a command with one sentence and exit status 1 instead of a traceback."""
    from service.ocr.exceptions import OcrError, printable

    try:
        yield
    except (TrainingError, OcrError, OSError) as error:  # such as a full disk
        lines = (shortened(printable(line)) for line in str(error).splitlines())
        print("error:", "\n".join(lines), file=sys.stderr)
        raise SystemExit(1) from None
