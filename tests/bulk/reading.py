"""Pictures for bulk reads, the command that reads them, and its output."""

import os
import random
import subprocess
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pyarrow import parquet

from tests import stripes
from tests.cli.command import COMMAND, ROOT, environment

MODEL = ROOT / "models" / "captcha.onnx"
DEADLINE = 300
"""Seconds after which a test fails because something hangs."""

_EXAMPLES = sorted((ROOT / "examples").glob("*.png"))


def write_pictures(folder: Path, number: int, broken: Collection[int] = ()) -> dict[str, str]:
    """Writes pictures; gives the texts of the valid ones by file name."""
    folder.mkdir(parents=True)
    texts = {}
    choose = random.Random(number).choice
    for index in range(number):
        text = "".join(choose(stripes.ALPHABET + stripes.BLANK) for _ in range(stripes.TIME_STEPS))
        content = stripes.picture(text)
        (folder / f"{index:05}.png").write_bytes(content[:60] if index in broken else content)
        if index not in broken:
            texts[f"{index:05}.png"] = text
    return texts


def link_examples(folder: Path, number: int) -> None:
    """Fills a folder with pictures that take a real model some milliseconds each."""
    folder.mkdir()
    for index in range(number):
        os.link(_EXAMPLES[index % len(_EXAMPLES)], folder / f"{index:05}.png")


def bulk_read(*arguments: object, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Runs `bulk read` to its end."""
    return subprocess.run(
        [*COMMAND, "bulk", "read", *map(str, arguments)],
        cwd=ROOT, env=environment(**variables), capture_output=True, timeout=DEADLINE, check=False,
    )  # fmt: skip


def start_bulk_read(
    *arguments: object, prefix: tuple[str, ...] = (), **variables: str
) -> subprocess.Popen[str]:
    """Starts `bulk read`."""
    return subprocess.Popen(
        [*prefix, *COMMAND, "bulk", "read", *map(str, arguments)],
        cwd=ROOT, env=environment(**variables), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def table(folder: Path) -> list[dict[str, Any]]:
    """The rows of a table, sorted by path."""
    rows: list[dict[str, Any]] = parquet.read_table(folder).to_pylist()
    return sorted(rows, key=lambda row: row["path"])


def files(folder: Path) -> dict[str, int]:
    """The files of a table with their modification times in nanoseconds."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


def children(process: int) -> list[int]:
    """The process ids of the children of a process."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True)
    return [int(pid) for pid in found.stdout.split()]


def name_of(process: int) -> str:
    """The name of a process, cut to 15 characters; empty if the process has ended."""
    try:
        return Path("/proc", str(process), "comm").read_text().strip()
    except OSError:
        return ""


def wait_until(holds: Callable[[], bool]) -> None:
    """Waits until a condition holds; fails after `DEADLINE` seconds."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
