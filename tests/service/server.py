"""Runs the service as a user does: a process of its own, and requests over a socket."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

ROOT = Path(__file__).parents[2]
START_SECONDS = 60


def start(code: str | None = None, **settings: object) -> subprocess.Popen[str]:
    """Starts `python -m service`, or other code, with these settings."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OCR_")}
    # Nobody reads it while the service runs, and a full pipe would hold the service up.
    environment["OCR_ACCESS_LOG"] = "false"
    environment |= {f"OCR_{key.upper()}": str(value) for key, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, *(["-m", "service"] if code is None else ["-c", code])],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def fails_to_start(**settings: object) -> tuple[int, str]:
    """The exit status and the output of a service that is expected to end by itself."""
    process = start(**{"port": 0, **settings})
    try:
        output, _ = process.communicate(timeout=START_SECONDS)
    finally:
        process.kill()
    return process.returncode, output


@contextmanager
def serving(**settings: object) -> Iterator[str]:
    """The address of a running service; at the end it must stop in good order."""
    process = start(port=0, **settings)
    try:
        address = address_of(process)
        wait(address)
        yield address
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=START_SECONDS)
        assert process.returncode == 0, output
    finally:
        process.kill()
        process.wait()


def address_of(process: subprocess.Popen[str]) -> str:
    """The address that a starting service prints."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "running on http://" in line:
            return "http://" + line.split("http://")[1].split()[0]
    raise AssertionError("the service ended: " + "".join(lines))


def wait(address: str) -> None:
    """Until the service there is ready."""
    for _ in range(START_SECONDS * 10):
        try:
            if httpx2.get(f"{address}/health/ready").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the service did not become ready")
