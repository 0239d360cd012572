"""`captcha-ocr label`: a page on this machine for labelling a folder of pictures."""

import shlex
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.model import DEFAULT_MODEL, MODEL_VARIABLE, load_model
from service.cli.output import progress
from service.cli.pictures import NO_PICTURE, NoPicturesError, named_pictures, read_bytes
from service.cli.question import Given, question_of, question_options
from service.query_params import CONSTRAINTS

if TYPE_CHECKING:
    from service.cli.label_app import Picture
    from service.ocr.decoding.decoder import Reading
    from service.ocr.recognizer import Recognizer

_BASE_MODEL = Path("models/base.onnx")
_PORT = 8765
_SAMPLE = 32
"""Number of pictures on which models are compared."""

_COMPARED_SIZE = (32, 16)
_NEAR = 0.01
"""Mean difference of gray, 0 to 1, up to which two pictures are near-duplicates."""

_MAX_COMPARED = 5000
"""Number of earlier pictures that each picture is compared with."""


@question_options(*CONSTRAINTS)
def label(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Pictures to label, in or below it.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            envvar=MODEL_VARIABLE,
            help=f"The model that proposes labels.  [default: {DEFAULT_MODEL} or {_BASE_MODEL}, "
            "whichever reads the pictures with more confidence]",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 chooses a free port.")
    ] = _PORT,
    **question: Any,
) -> None:
    """Label the pictures of a folder in the browser, with a model's proposals.

    Enter accepts the proposal, typing corrects it, Escape skips, arrows go back and forth. The
    least confident pictures come first and near-duplicates last. Each answer is appended to
    FOLDER/labels.csv at once; start the command again to go on. Only this machine can reach the
    page.
    """
    import uvicorn

    from service.cli.label_app import LabelFile, LabelFileError, create_app
    from service.ocr.exceptions import printable

    try:
        named = named_pictures([str(folder)])
        files = [Path(file) for file in named.pictures]
        if not folder.is_dir():
            raise NoPicturesError(f"{folder} is not a folder.")
        for file in files:
            if not _fits_table(str(file.relative_to(folder))):
                raise NoPicturesError(
                    f"the name {str(file)!a} has a line break, or is not in UTF-8; rename it."
                )
        labels = LabelFile(folder / "labels.csv")
    except (NoPicturesError, LabelFileError) as error:
        raise typer.BadParameter(str(error), param_hint="FOLDER") from error
    for skipped, reason in named.skipped.items():
        if reason != NO_PICTURE:  # such as labels.csv
            typer.echo(f"skipped: {printable(skipped)}: {reason}", err=True)
    pictures = _proposals(folder, files, model, question)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise typer.BadParameter(
                f"port {port} cannot be used: {error.strerror}", param_hint="--port"
            ) from error
        listener.listen()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        typer.echo(f"Label {len(pictures)} pictures at {address} (stop with Ctrl-C)")
        config = uvicorn.Config(create_app(folder, pictures, labels), log_level="warning")
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again after its shutdown
            uvicorn.Server(config).run(sockets=[listener])
    left_out = sum(picture.path not in labels.labels for picture in pictures)
    typer.echo(
        f"{len(labels.labels)} labels in {labels.path}; next:\n"
        f"make data DATA={shlex.quote(str(folder))}" + (" ARGS=--accept" if left_out else "")
    )
    if left_out:
        # Without --accept, `make data` treats pictures without a label as an error.
        typer.echo(f"--accept leaves out {left_out} without a label")


def _fits_table(name: str) -> bool:
    """Whether a table, as `make data` reads it, can hold the name of a file."""
    return not {"\n", "\r"} & set(name) and name.encode(errors="ignore").decode() == name


def _proposals(
    folder: Path, files: list[Path], model: Path | None, question: Given
) -> "list[Picture]":
    """The pictures with a model's proposals, in the order in which they should be labelled."""
    from service.cli.label_app import Picture

    recognizer = load_model(model) if model else _most_confident_model(files)
    typer.echo(f"Reading {len(files)} pictures …", err=True)
    with progress(2 * len(files)) as advance:
        readings = (
            _read(recognizer, files, question, advance) if recognizer else [None] * len(files)
        )
        duplicates = _near_duplicates(files, advance)
    pictures = [
        Picture(
            path=file.relative_to(folder).as_posix(),
            proposal=reading.text if reading else "",
            confidence=reading.confidence if reading else 0.0,
        )
        for file, reading in zip(files, readings, strict=True)
    ]
    order = sorted(
        range(len(files)), key=lambda number: (duplicates[number], pictures[number].confidence)
    )
    return [pictures[number] for number in order]


def _most_confident_model(files: list[Path]) -> "Recognizer | None":
    """The available model that reads a sample of the pictures with the most confidence."""
    import statistics

    found = [load_model(path) for path in (DEFAULT_MODEL, _BASE_MODEL) if path.is_file()]
    if not found:
        typer.echo("There is no model; labels are typed without proposals.", err=True)
        return None
    sample = files[:: max(1, len(files) // _SAMPLE)][:_SAMPLE]

    def confidence(recognizer: "Recognizer") -> float:
        readings = _read(recognizer, sample, {})
        return statistics.median(reading.confidence if reading else 0 for reading in readings)

    best = max(found, key=confidence) if len(found) > 1 else found[0]
    typer.echo(f"Proposals are from the model {best.metadata.name}.", err=True)
    return best


def _read(
    recognizer: "Recognizer",
    files: list[Path],
    question: Given,
    advance: Callable[[], None] = lambda: None,
) -> "list[Reading | None]":
    """The reading of every file, or None where it cannot be read."""
    from service.cli.reading import read_pictures
    from service.ocr.decoding.decoder import Reading
    from service.runtime.cpu_budget import cpu_threads

    asked, _ = question_of(recognizer.metadata, question)
    outcomes = read_pictures(recognizer, map(str, files), asked, cpu_threads())
    readings = []
    for _, outcome in outcomes:
        readings.append(outcome if isinstance(outcome, Reading) else None)
        advance()
    return readings


def _near_duplicates(files: list[Path], advance: Callable[[], None]) -> list[bool]:
    """Whether each picture nearly repeats an earlier one, or cannot be read."""
    import numpy as np

    from service.ocr.exceptions import PictureError
    from service.ocr.preprocessing import preprocess

    width, height = _COMPARED_SIZE
    kept = np.empty((len(files), width * height), np.float32)
    means = np.empty(len(files), np.float32)
    count = 0
    repeated = []
    for file in files:
        advance()
        try:
            small = preprocess(read_bytes(str(file)), width, height).ravel()
        except (PictureError, OSError):
            repeated.append(True)
            continue
        start, mean = max(0, count - _MAX_COMPARED), small.mean()
        # The means of two pictures differ by at most the mean difference of the pictures.
        alike = np.abs(means[start:count] - mean) <= _NEAR
        earlier = kept[start:count][alike]
        repeated.append(bool((np.abs(earlier - small).mean(axis=1) <= _NEAR).any()))
        if not repeated[-1]:
            kept[count], means[count] = small, mean
            count += 1
    return repeated
