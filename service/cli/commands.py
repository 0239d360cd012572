"""The command `captcha-ocr` and its subcommands.

Modules that take long to import are imported inside of the commands, so that `--help` and shell
completion answer at once.
"""

from typing import Annotated

import typer

from service import __version__
from service.cli.bench import bench
from service.cli.bulk import create_bulk
from service.cli.info import info
from service.cli.label import label
from service.cli.predict import predict
from service.cli.serve import serve


def create_cli() -> typer.Typer:
    """The command and its subcommands."""
    # Plain help texts, which read the same in a terminal, a pipe and the documents.
    cli = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    cli.callback()(_options)
    for command in (predict, serve, label, info, bench):
        cli.command()(command)
    cli.add_typer(create_bulk())
    return cli


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"captcha-ocr {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Read small pictures with a few characters on them."""
