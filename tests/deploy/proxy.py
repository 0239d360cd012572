"""Runs a proxy with a configuration of `deploy/`, changed as a test needs."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.server.process import ROOT

FOLDER = ROOT / "deploy"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as proxy:
        try:
            yield
        finally:
            proxy.terminate()


def change(text: str, *changes: tuple[str, str]) -> str:
    """Replaces strings in a text; each must occur exactly once."""
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
