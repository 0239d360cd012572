"""`captcha-ocr predict`: reads files and folders of pictures without a server."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.model import DEFAULT_MODEL, ModelOption, load_model
from service.cli.output import CsvWriter, JsonWriter, TextWriter, Writer, printing
from service.cli.pictures import NoPicturesError, named_pictures
from service.cli.question import question_of

if TYPE_CHECKING:
    from service.ocr.decoding.decoder import Question
    from service.ocr.recognizer import Recognizer

_MOST_ALTERNATIVES = 10
_MAX_PIXELS = 4_000_000  # as where it is defined, whose import takes too long for a help text


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
    alternatives: Annotated[
        int,
        typer.Option(
            min=0,
            max=_MOST_ALTERNATIVES,
            envvar="OCR_ALTERNATIVES",
            help="How many of the most probable other texts to give.",
        ),
    ] = 0,
    min_confidence: Annotated[
        float,
        typer.Option(
            min=0, max=1, envvar="OCR_MIN_CONFIDENCE", help="Below it a text is not accepted."
        ),
    ] = 0.0,
    length: Annotated[
        str | None, typer.Option(envvar="OCR_LENGTH", help="How many characters: 5, or 4-7.")
    ] = None,
    alphabet: Annotated[
        str | None, typer.Option(envvar="OCR_ALPHABET", help="The only characters there are.")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(envvar="OCR_PATTERN", help="A regular expression of the whole text."),
    ] = None,
    max_pixels: Annotated[
        int,
        typer.Option(
            min=1,
            envvar="OCR_MAX_PIXELS",
            help="Width × height above which a picture is not read.",
        ),
    ] = _MAX_PIXELS,
    model: ModelOption = DEFAULT_MODEL,
) -> None:
    """Read pictures on all cores, without a server.

    Results are in the order of the pictures. Pictures that cannot be read are listed at the end
    on the standard error, and the exit status is then 1.
    """
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other.")
    try:
        pictures = named_pictures(files)
    except NoPicturesError as error:
        raise typer.BadParameter(str(error), param_hint="FILE") from error
    recognizer = load_model(model, max_pixels)
    question = question_of(recognizer.metadata.alphabet, alternatives, length, alphabet, pattern)
    with printing():
        writer = JsonWriter() if as_json else CsvWriter(alternatives) if as_csv else TextWriter()
        failed = _write_all(recognizer, pictures, question, min_confidence, writer)
    for file, reason in failed:
        typer.echo(f"error: {file}: {reason}", err=True)
    if failed:
        typer.echo(f"{len(failed)} of {len(pictures)} pictures could not be read.", err=True)
        raise typer.Exit(1)


def _write_all(
    recognizer: "Recognizer",
    pictures: list[str],
    question: "Question",
    min_confidence: float,
    writer: Writer,
) -> list[tuple[str, str]]:
    """Prints the readings as they come; gives the pictures that failed, and why."""
    from service.api.serializers import prediction
    from service.cli.reading import read_pictures
    from service.ocr.decoding.decoder import Reading
    from service.runtime.cpu_budget import cpu_threads

    failed = []
    with _progress(len(pictures)) as advance:
        for file, outcome in read_pictures(recognizer, pictures, question, cpu_threads()):
            if isinstance(outcome, Reading):
                writer.write(file, prediction(outcome, recognizer.metadata, min_confidence))
            else:
                failed.append((file, _reason(outcome)))
            advance()
    return failed


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on the terminal, unless the results themselves are printed there."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Left as it is, the bar would draw the output into itself.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
