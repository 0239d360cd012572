"""Runs the command line as a user does: in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "service.cli"]


def environment(**variables: str) -> dict[str, str]:
    """The environment of this process, without settings of the service, plus `variables`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OCR_")}
    return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"} | variables


def run(
    *arguments: object, stdin: bytes = b"", cwd: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd, env=environment(**variables), input=stdin, capture_output=True, check=False,
    )  # fmt: skip
