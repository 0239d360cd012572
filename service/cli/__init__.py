"""The command `captcha-ocr`: `commands` puts it together, of a module for each command.

This module imports nothing that has to be installed: with the extra `client`, the command is there
without what it needs, and says so.
"""

import sys


def main() -> None:
    """Runs the command line and exits."""
    try:
        from service.cli.commands import create_cli

        create_cli()(prog_name="captcha-ocr")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "service":
            raise  # that would be a mistake of ours
        sys.exit(
            f"error: {error.name} is not installed; captcha-ocr needs the extra `service`: "
            "pip install .[service] in the repository."
        )
