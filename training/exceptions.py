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
"""Longest line of an error message, in characters."""


class TrainingError(Exception):
    """Base of the errors that training raises on purpose."""


class DataError(TrainingError):
    """The pictures or labels cannot be used."""


class ConfigError(TrainingError):
    """A setting is unknown, of the wrong type, or out of range."""


class RunError(TrainingError):
    """The folder of a run is missing, or lacks a file that is needed."""


class ExportError(TrainingError):
    """The exported model did not pass a check; the old model was left in place."""


def shortened(text: str) -> str:
    """Cuts a very long text, such as a label from a table of another kind."""
    more = len(text) - _LONGEST_SHOWN
    return text if more <= 0 else f"{text[:_LONGEST_SHOWN]} … and {more} more characters"


@contextmanager
def reported() -> Iterator[None]:
    """Ends a command that fails with one sentence and exit status 1 instead of a traceback."""
    from service.ocr.exceptions import OcrError, printable

    try:
        yield
    except (TrainingError, OcrError, OSError) as error:  # such as a full disk
        lines = (shortened(printable(line)) for line in str(error).splitlines())
        print("error:", "\n".join(lines), file=sys.stderr)
        raise SystemExit(1) from None
