"""`captcha-ocr serve`: the service, as `python -m service` starts it."""

import os
from pathlib import Path
from typing import Annotated

import typer


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve requests.")] = None,
    model: Annotated[Path | None, typer.Option(help="The exported model to serve.")] = None,
) -> None:
    """Serve a model over HTTP.

    The environment variables OCR_* set everything that is not given here.
    """
    from service.server.main import main

    given = {"HOST": host, "PORT": port, "WORKERS": workers, "MODEL_PATH": model}
    # Set in the environment, because the workers read their settings from there.
    os.environ.update({f"OCR_{name}": str(v) for name, v in given.items() if v is not None})
    raise typer.Exit(main())
