"""The command line as a whole: its commands, under one name.

What takes long to import is imported where a command needs it, so that `--help` and shell
completion answer at once.
"""

import typer

from service.cli.bench import bench
from service.cli.info import info
from service.cli.predict import predict
from service.cli.serve import serve


def create_cli() -> typer.Typer:
    """The command and its subcommands."""
    # Plain help texts, which read the same in a terminal, a pipe and the documents.
    cli = typer.Typer(
        help="Read small pictures with a few characters on them.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for command in (predict, serve, info, bench):
        cli.command()(command)
    return cli
