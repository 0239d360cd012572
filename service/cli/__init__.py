"""The command `captcha-ocr`: `commands` puts it together, one module for each subcommand."""


def main() -> None:
    """Runs the command line and exits."""
    from service.cli.commands import create_cli

    create_cli()(prog_name="captcha-ocr")
