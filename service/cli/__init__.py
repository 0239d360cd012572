"""The command `captcha-ocr`: a module for each subcommand, and `commands`, which lists them.

This module imports nothing that has to be installed, so that it can say which extra is missing.
"""

import sys


def main() -> None:
    """Runs the command line and exits."""
    try:
        from service.cli.commands import create_cli

        create_cli()(prog_name="captcha-ocr")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "service":
            raise  # a bug, not a missing extra
        sys.exit(
            f"error: {error.name} is not installed; captcha-ocr needs the extra `service`: "
            "pip install .[service] in the repository."
        )
