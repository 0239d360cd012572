"""Pictures for bulk reads, the command that reads them, and what it has written."""

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
"""Seconds after which something hangs."""

_EXAMPLES = sorted((ROOT / "examples").glob("*.png"))


def write_pictures(folder: Path, number: int, broken: Collection[int] = ()) -> dict[str, str]:
    """Writes pictures; gives the texts of those that are not broken, by their names."""
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
    """Fills a folder with pictures that a real model takes some milliseconds for."""
    folder.mkdir()
    for index in range(number):
        os.link(_EXAMPLES[index % len(_EXAMPLES)], folder / f"{index:05}.png")


def bulk_read(*arguments: object, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """The finished command."""
    return subprocess.run(
        [*COMMAND, "bulk", "read", *map(str, arguments)],
        cwd=ROOT, env=environment(**variables), capture_output=True, timeout=DEADLINE, check=False,
    )  # fmt: skip


def start_bulk_read(
    *arguments: object, prefix: tuple[str, ...] = (), **variables: str
) -> subprocess.Popen[str]:
    """The running command."""
    return subprocess.Popen(
        [*prefix, *COMMAND, "bulk", "read", *map(str, arguments)],
        cwd=ROOT, env=environment(**variables), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def table(folder: Path) -> list[dict[str, Any]]:
    """The rows, by their paths."""
    rows: list[dict[str, Any]] = parquet.read_table(folder).to_pylist()
    return sorted(rows, key=lambda row: row["path"])


def files(folder: Path) -> dict[str, int]:
    """The files of a table, and when each was written, in nanoseconds."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True)
    return [int(pid) for pid in found.stdout.split()]


def name_of(process: int) -> str:
    """How a process calls itself, up to 15 characters; empty if it has ended."""
    try:
        return Path("/proc", str(process), "comm").read_text().strip()
    except OSError:
        return ""


def wait_until(holds: Callable[[], bool]) -> None:
    """Until something holds that must."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
