"""The model that a command works with."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.default_model import default_model_path

if TYPE_CHECKING:
    from service.ocr.recognizer import Recognizer

DEFAULT_MODEL = default_model_path()
MODEL_VARIABLE = "OCR_MODEL_PATH"

MAX_PIXELS = 4_000_000  # as in service.ocr.preprocessing, which takes too long to import for --help

ModelOption = Annotated[Path, typer.Option(envvar=MODEL_VARIABLE, help="The exported model.")]
MaxPixelsOption = Annotated[
    int,
    typer.Option(
        envvar="OCR_MAX_PIXELS",
        min=1,
        help="Width × height above which a gray JPEG is not read; other kinds of pictures may have "
        "lower limits.",
    ),
]


def load_model(path: Path, max_pixels: int | None = None) -> "Recognizer":
    """Opens and checks a model; ends the command with an error message if that fails.

    Args:
        max_pixels: width × height above which pictures are refused; None: the default.
    """
    from service.ocr.exceptions import ModelError, ModelFileError
    from service.ocr.preprocessing import DEFAULT_MAX_PIXELS
    from service.ocr.recognizer import Recognizer

    try:
        recognizer = Recognizer.load(path, max_pixels=max_pixels or DEFAULT_MAX_PIXELS)
        recognizer.verify()
    except ModelError as error:
        typer.echo(f"error: {error}", err=True)
        if isinstance(error, ModelFileError):
            typer.echo(
                f"Name another file, or set {MODEL_VARIABLE}; `make export-onnx` in the project's "
                "repository makes one.",
                err=True,
            )
        raise typer.Exit(1) from error
    return recognizer
