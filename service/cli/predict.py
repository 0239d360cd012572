"""`captcha-ocr predict`: reads files and folders of pictures without a server."""

import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.model import (
    DEFAULT_MODEL,
    MAX_PIXELS,
    MaxPixelsOption,
    ModelOption,
    load_model,
)
from service.cli.output import Answer, CsvWriter, JsonWriter, TextWriter, printing, progress
from service.cli.pictures import NoPicturesError, named_pictures
from service.cli.question import question_of, question_options
from service.query_params import QueryParams

if TYPE_CHECKING:
    from service.cli.reading import Outcome
    from service.ocr.recognizer import Recognizer

_MAX_SKIPPED = 10
"""Largest number of skipped files that are listed."""


@question_options(*QueryParams.model_fields)
def predict(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Pictures, folders with pictures in or below them, or - for the standard input.",
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines: the HTTP answer and `file`.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    least_sure: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Print only the N least confident readings, the least confident first.",
        ),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    **question: Any,
) -> None:
    """Read pictures on all cores, without a server.

    Results are in the order of the pictures. At the end, the standard error lists files of
    folders that are skipped because they are not pictures, and pictures that cannot be read. The
    exit status is 1 if a picture cannot be read.
    """
    from service.cli.reading import read_pictures
    from service.runtime.cpu_budget import cpu_threads

    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other.")
    try:
        pictures, skipped = named_pictures(files)
    except NoPicturesError as error:
        raise typer.BadParameter(str(error), param_hint="FILE") from error
    recognizer = load_model(model, max_pixels)
    asked, min_confidence = question_of(recognizer.metadata, question)
    failed: list[tuple[str, str]] = []
    with printing():
        writer = (
            JsonWriter() if as_json else CsvWriter(asked.alternatives) if as_csv else TextWriter()
        )
        # No bar on a terminal on which results are printed meanwhile.
        shown = least_sure is not None or not sys.stdout.isatty()
        bar_total = len(pictures) if shown else 0
        outcomes = read_pictures(recognizer, pictures, asked, cpu_threads(), frozenset(files))
        answers = _answers(recognizer, outcomes, min_confidence, failed, bar_total)
        if least_sure is not None:
            answers = iter(sorted(answers, key=lambda one: one[1]["confidence"])[:least_sure])
        for file, answer in answers:
            writer.write(file, answer)
    _report(failed, skipped, len(pictures))


def _answers(
    recognizer: "Recognizer",
    outcomes: "Iterator[tuple[str, Outcome]]",
    min_confidence: float,
    failed: list[tuple[str, str]],
    bar_total: int,
) -> Iterator[tuple[str, Answer]]:
    """Yields each file with its answer; adds unreadable files to `failed`, with the reason.

    Shows a progress bar of `bar_total` pictures, or none if that is 0.
    """
    from service.api.serializers import prediction
    from service.ocr.decoding.decoder import Reading

    with progress(bar_total) as advance:
        for file, outcome in outcomes:
            if isinstance(outcome, Reading):
                yield file, prediction(outcome, recognizer.metadata, min_confidence)
            else:
                failed.append((file, _reason(outcome)))
            advance()


def _report(failed: list[tuple[str, str]], skipped: dict[str, str], total: int) -> None:
    """Lists the files that were not read on the standard error."""
    from service.ocr.exceptions import printable

    for file, reason in islice(skipped.items(), _MAX_SKIPPED):
        typer.echo(f"skipped: {printable(file)}: {reason}", err=True)
    if len(skipped) > _MAX_SKIPPED:
        typer.echo(f"skipped: {len(skipped) - _MAX_SKIPPED} more files", err=True)
    for file, reason in failed:
        typer.echo(f"error: {printable(file)}: {reason}", err=True)
    if failed:
        typer.echo(f"{len(failed)} of {total} pictures could not be read.", err=True)
        raise typer.Exit(1)


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
