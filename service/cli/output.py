"""How readings are printed: for people, as JSON lines, or as CSV."""

import csv
import errno
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import typer

Answer = Mapping[str, Any]
"""What `POST /predict` answers."""


class Writer(Protocol):
    """Prints answers on the standard output."""

    def write(self, file: str, answer: Answer) -> None:
        """Prints one answer."""


class TextWriter:
    """Lines for people: file, text, confidence, alternatives, and a remark if not accepted."""

    def write(self, file: str, answer: Answer) -> None:
        """Prints one answer."""
        from service.ocr.exceptions import printable

        parts = [printable(file), answer["text"] or "(no text)", f"{answer['confidence']:.4f}"]
        parts += [f"or {a['text']} {a['confidence']:.4f}" for a in answer["alternatives"]]
        if not answer["accepted"]:
            parts.append(answer["reason"] or "not accepted")
        print("  ".join(parts))


class JsonWriter:
    """JSON lines: the answer of `POST /predict` with the member `file` before it."""

    def write(self, file: str, answer: Answer) -> None:
        """Prints one answer."""
        print(json.dumps({"file": file, **answer}))


class CsvWriter:
    """CSV with a header. `make data` takes its columns `path` and `label`.

    Args:
        alternatives: how many were asked for; each has two columns, empty if there is no such text.
    """

    def __init__(self, alternatives: int) -> None:
        names = [f"alternative_{number}" for number in range(1, alternatives + 1)]
        self._width = 2 * alternatives
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        columns = ["path", "label", "confidence", "accepted", "reason", "model_version"]
        for name in names:
            columns += [name, f"{name}_confidence"]
        self._writer.writerow(columns)

    def write(self, file: str, answer: Answer) -> None:
        """Prints one answer."""
        accepted = "true" if answer["accepted"] else "false"
        row = [file, answer["text"], answer["confidence"], accepted, answer["reason"]]
        others = [a[key] for a in answer["alternatives"] for key in ("text", "confidence")]
        others += [None] * (self._width - len(others))
        self._writer.writerow([*row, answer["model"]["version"], *others])


@contextmanager
def printing() -> Iterator[None]:
    """Flushes each line of the standard output, and escapes characters that it cannot encode.

    If the standard output cannot be written, ends the command with an error message.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # the reader, such as `head`, has ended; Typer exits without a message
        typer.echo(f"error: the results cannot be written: {error.strerror}", err=True)
        # Otherwise the buffered output would be written again at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from error


@contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    """Shows a progress bar if the standard error is a terminal; yields a function that advances it.

    Args:
        total: number of steps; 0: no bar.
    """
    if not total or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # By default, the bar would take over the standard output as well.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
