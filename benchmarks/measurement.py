"""Runs a measurement and stores its figures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.servers import ServerError
from service.ocr.exceptions import ModelError


def write(figures: dict[str, Any], path: Path) -> None:
    """Writes the figures as JSON, from which `benchmarks.report` makes its page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n")


def run(main: Callable[[], None]) -> None:
    """Runs a measurement, and reports a failure in one sentence.

    Raises:
        SystemExit: a server did not start, or the model cannot be used.
    """
    try:
        main()
    except (ServerError, ModelError) as failure:
        raise SystemExit(f"error: {failure}") from None
