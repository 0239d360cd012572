"""`captcha-ocr info`: what a model file says about itself."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.model import DEFAULT_MODEL, MODEL_VARIABLE, load_model

if TYPE_CHECKING:
    from service.ocr.metadata import ModelMetadata


def info(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", envvar=MODEL_VARIABLE, help="The exported model.")
    ] = DEFAULT_MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Check a model and show its metadata, held-out figures and size."""
    facts = {"file": str(model), **described(load_model(model).metadata)}
    facts["bytes"] = model.stat().st_size
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        _print_table(facts)


def described(metadata: "ModelMetadata") -> dict[str, Any]:
    """The metadata as JSON values, with the number of golden pictures in place of the pictures."""
    from dataclasses import asdict

    facts = asdict(metadata)
    return facts | {"golden": len(metadata.golden)}


def _print_table(facts: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in _flattened(facts):
        # Texts from the file are shown literally, not as markup.
        table.add_row(Text(name), Text(str(value)))
    Console().print(table)


def _flattened(facts: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            rows += _flattened(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows
