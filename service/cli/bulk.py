"""`captcha-ocr bulk`: reads pictures by the million into Parquet files, with Ray."""

import hashlib
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from service.cli.model import (
    DEFAULT_MODEL,
    MAX_PIXELS,
    MaxPixelsOption,
    ModelOption,
    load_model,
)
from service.cli.question import query_of, question_of, question_options
from service.query_params import QueryParams

if TYPE_CHECKING:
    from service.bulk.rows import Counts
    from service.bulk.run import Progress
    from service.bulk.shards import Shard

_LINE_SECONDS = 30.0
"""Between two lines of progress, if the standard error is not a terminal."""

_MAX_NAMED = 20
"""Largest number of failed shards that are listed."""

InputArgument = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help="A folder of pictures, or .tar or .parquet files (columns path and bytes), or one "
        "such file; also in an object store, like s3://bucket/folder.",
    ),
]
OutputArgument = Annotated[
    str,
    typer.Argument(metavar="OUTPUT", help="The folder of the table; also in an object store."),
]


class Form(StrEnum):
    """The kinds of file that pictures can be packed into."""

    TAR = "tar"
    PARQUET = "parquet"


def create_bulk() -> typer.Typer:
    """The command `bulk` and its subcommands."""
    bulk = typer.Typer(
        name="bulk",
        help="Read pictures by the million into a table, on one machine or a Ray cluster.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for command in (read, pack, status):
        bulk.command()(command)
    return bulk


@question_options(*(name for name in QueryParams.model_fields if name != "matrix"))
def read(
    source: InputArgument,
    target: OutputArgument,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="The Ray cluster: host:port, or auto for the cluster that this machine belongs "
            "to. Default: this machine alone.",
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of reading processes. Default: one per core; in a cluster, one core stays "
            "free.",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Pictures per call of the model.")] = 8,
    shard_pictures: Annotated[
        int,
        typer.Option(
            min=1,
            help="Pictures per shard, if INPUT is a folder of pictures. A process reads one shard "
            "at a time, and writes it to one file of the table.",
        ),
    ] = 1000,
    retry_errors: Annotated[
        bool,
        typer.Option("--retry-errors", help="Also read shards with broken pictures again."),
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Remove files from OUTPUT that belong to another input, model or question.",
        ),
    ] = False,
    patience: Annotated[
        float,
        typer.Option(min=1, metavar="SECONDS", help="How long to wait for the first process."),
    ] = 600,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    model: ModelOption = DEFAULT_MODEL,
    **question: Any,
) -> None:
    """Read pictures into a table of Parquet files.

    Each picture has one row, even if it cannot be read. After an interruption, the same command
    continues where it stopped. The file _SUCCESS in OUTPUT marks a complete table.
    """
    metadata = load_model(model, max_pixels).metadata
    question_of(metadata, question)
    with _errors():
        from service.bulk.run import Driver, Work, cluster
        from service.bulk.shards import InputError, find_shards, is_below
        from service.bulk.tables import Asked, Table

        if is_below(target, source):
            raise InputError(f"{target} is in {source}; name a folder elsewhere.")
        content = model.read_bytes()
        asked = Asked(hashlib.sha256(content).hexdigest(), query_of(question).decode(), max_pixels)
        table = Table(target)
        files = {asked.file_of(shard): shard for shard in find_shards(source, shard_pictures)}
        found = table.files()
        other = found.keys() - files.keys()
        if other and not replace:
            raise InputError(
                f"{target} has {len(other)} files of another input, model or question; name "
                "another folder, or remove them with --replace."
            )
        kept = {
            name: counts
            for name, counts in found.items()
            if name in files and not (retry_errors and counts.errors)
        }
        left = [shard for name, shard in files.items() if name not in kept]
        run = {
            "input": re.sub("//[^/@]*@", "//", source),  # without credentials
            "model": {"name": metadata.name, "version": metadata.version, "sha256": asked.model},
            "question": asked.query,
            "max_pixels": max_pixels,
            "shards": len(files),
        }
        table.begin(run, other)
        if kept:
            typer.echo(f"{len(kept)} of {len(files)} shards have been read already.", err=True)
        counts = _sum(kept.values())
        if left:
            work = Work(source, target, asked, batch)
            with cluster(address, actors) as max_actors, _Display(left) as display:
                done = Driver(left, work, content, max_actors, patience, display.show).run()
            counts += done.counts
            _print_speed(done, display.seconds)
            _stop_at_failed(done.failed, len(files))
        table.succeed(run, counts)
    _print_counts(counts)


def pack(
    folder: Annotated[
        str,
        typer.Argument(metavar="FOLDER", help="Contains the pictures; also in an object store."),
    ],
    shards: Annotated[
        str, typer.Argument(metavar="SHARDS", help="A new folder; also in an object store.")
    ],
    shard_pictures: Annotated[int, typer.Option(min=1, help="Pictures per shard.")] = 20_000,
    form: Annotated[
        Form,
        typer.Option("--format", help="WebDataset's tar, or Parquet with path and bytes."),
    ] = Form.TAR,
) -> None:
    """Pack loose pictures into shards, which are faster to list, move and read."""
    with _errors():
        from rich.console import Console
        from rich.progress import Progress

        from service.bulk.shards import pack as pack_pictures

        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=None)
            number = pack_pictures(
                folder, shards, shard_pictures, form.value, lambda n: progress.advance(task, n)
            )
            pictures = int(progress.tasks[0].completed)
    typer.echo(f"{pictures} pictures in {number} shards")


def status(
    target: OutputArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Say how much of a table is written, and what is in it."""
    with _errors():
        from service.bulk.tables import Table

        table = Table(target)
        run, complete = table.run()
        files = table.files()
    counts = _sum(files.values())
    if as_json:
        facts = run | {"files": len(files), "complete": complete, "counts": counts.as_json()}
        typer.echo(json.dumps(facts))
        return
    state = "complete" if complete else "not complete; the same command continues"
    typer.echo(f"{len(files)} of {run['shards']} shards of {run['input']}: {state}")
    _print_counts(counts)


class _Display:
    """Shows the progress of a run on the standard error; on a terminal, updates a single line."""

    def __init__(self, shards: "list[Shard]") -> None:
        self._shards = len(shards)
        self._bytes = sum(shard.size for shard in shards)
        self._terminal = sys.stderr.isatty()
        self._started = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        self._started = self._shown = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        if self._terminal:
            print(end="\r\x1b[K", file=sys.stderr, flush=True)

    @property
    def seconds(self) -> float:
        """Seconds since the display was entered."""
        return time.monotonic() - self._started

    def show(self, progress: "Progress") -> None:
        """Shows the progress; without a terminal, at most every `_LINE_SECONDS`."""
        if self._terminal:
            print(end=f"\r\x1b[K{self._line(progress)}", file=sys.stderr, flush=True)
        elif time.monotonic() - self._shown >= _LINE_SECONDS:
            self._shown = time.monotonic()
            print(self._line(progress), file=sys.stderr, flush=True)

    def _line(self, progress: "Progress") -> str:
        if progress.waiting:
            return f"waiting: {progress.waiting}"
        pictures = progress.counts.rows + progress.under_way
        line = (
            f"{progress.shards} of {self._shards} shards, {pictures} pictures, "
            f"{pictures / self.seconds:.0f}/s with {progress.actors} processes"
        )
        if progress.failed:
            line += f", {len(progress.failed)} shards failed"
        if progress.bytes:
            left = (self._bytes / progress.bytes - 1) * self.seconds
            line += f", about {timedelta(seconds=round(left))} left"
        return line


@contextmanager
def _errors() -> Iterator[None]:
    """Ends the command with an error message and the exit status 1."""
    try:
        from service.bulk import run, shards
    except ModuleNotFoundError as error:
        typer.echo(
            f"error: {error.name} is not installed; `pip install 'captcha-ocr[bulk]'` installs "
            "what this command needs.",
            err=True,
        )
        raise typer.Exit(1) from error
    try:
        yield
    except (shards.InputError, run.RunError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo("Interrupted; the same command continues.", err=True)
        raise typer.Exit(130) from error


def _sum(every: "Iterable[Counts]") -> "Counts":
    from service.bulk.rows import Counts

    total = Counts()
    for counts in every:
        total += counts
    return total


def _stop_at_failed(failed: dict[str, str], shards: int) -> None:
    """Lists the shards that were given up and ends the command, if there are any."""
    if not failed:
        return
    for name, reason in list(failed.items())[:_MAX_NAMED]:
        typer.echo(f"failed: {name}: {reason}", err=True)
    typer.echo(
        f"{len(failed)} of {shards} shards could not be read; the same command tries them again.",
        err=True,
    )
    raise typer.Exit(1)


def _print_speed(done: "Progress", seconds: float) -> None:
    pictures = done.counts.rows
    if pictures:
        typer.echo(
            f"{pictures} pictures in {seconds:.0f} s, {pictures / seconds:.0f}/s; "
            f"{1000 * done.cpu_seconds / pictures:.2f} CPU-ms each",
            err=True,
        )


def _print_counts(counts: "Counts") -> None:
    errors = counts.errors.total()
    typer.echo(f"{counts.rows} rows: {counts.accepted} accepted, {errors} errors")
    for kind, number in counts.errors.most_common():
        typer.echo(f"  {number:>10}  {kind}")
    typer.echo("confidence")
    for number, rows in enumerate(counts.confidence):
        share = rows / max(1, counts.rows - errors)
        bar = "#" * round(40 * share)
        typer.echo(f"  {number / 10:.1f}–{(number + 1) / 10:.1f}  {rows:>10}  {bar}".rstrip())
