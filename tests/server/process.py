"""Runs the service as users do: in a process of its own, with requests over a socket."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests import stripes

ROOT = Path(__file__).parents[2]
START_SECONDS = 60


def start(
    code: str | None = None,
    environment: dict[str, str] | None = None,
    options: dict[str, Any] | None = None,
    **settings: object,
) -> subprocess.Popen[str]:
    """Starts `python -m service`, or other code, with these settings.

    Args:
        code: Python code to run instead of the service.
        environment: further environment variables.
        options: further arguments of `subprocess.Popen`.
    """
    variables = {key: value for key, value in os.environ.items() if not key.startswith("OCR_")}
    # Nobody reads the log while the service runs.
    variables["OCR_ACCESS_LOG"] = "false"
    variables |= {f"OCR_{key.upper()}": str(value) for key, value in settings.items()}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(
        [sys.executable, *(["-m", "service"] if code is None else ["-c", code])],
        cwd=ROOT,
        env=variables | (environment or {}),
        text=True,
        **(pipes | (options or {})),
    )


def fails_to_start(**settings: Any) -> tuple[int, str]:
    """The exit status and the output of a service that is expected to end by itself."""
    process = start(**{"port": 0, **settings})
    try:
        output, _ = process.communicate(timeout=START_SECONDS)
    finally:
        process.kill()
    return process.returncode, output


@contextmanager
def serving(**settings: Any) -> Iterator[str]:
    """Runs a service and gives its address; at the end the service must stop without an error."""
    process = start(**{"port": 0, **settings})
    try:
        address = address_of(process)
        wait(address)
        yield address
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=START_SECONDS)
        assert process.returncode == 0, output
        assert "Traceback" not in output, output
    finally:
        process.kill()
        process.wait()


def address_of(process: subprocess.Popen[str]) -> str:
    """The address that a starting service prints."""
    return address_in(lines_until(process, "running on http://"))


def address_in(output: str) -> str:
    """The address in the last line of the output."""
    return "http://" + output.splitlines()[-1].split("http://")[1].split()[0]


def lines_until(process: subprocess.Popen[str], text: str) -> str:
    """The output of a process, down to the line with this text; kills it after some time."""
    assert process.stdout is not None
    lines = []
    timer = threading.Timer(START_SECONDS, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            lines.append(line)
            if text in line:
                return "".join(lines)
    finally:
        timer.cancel()
    raise AssertionError(f"the service ended without {text!r}: " + "".join(lines))


def wait(address: str) -> None:
    """Waits until the service at this address is ready."""

    def ready() -> bool:
        try:
            return httpx2.get(f"{address}/health/ready").status_code == 200
        except httpx2.TransportError:
            return False

    until(ready, "ready", START_SECONDS)


def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Waits until a condition holds; fails after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.05)


def version(address: str) -> str:
    """The version of the model that answers; it must read a picture correctly."""
    answer = httpx2.post(f"{address}/predict", files={"file": stripes.picture("ab")})
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"] == "ab"
    return answer.json()["model"]["version"]


def replace(path: Path, **changes: Any) -> None:
    """Replaces a model file in one step, as an export does."""
    stripes.write_model(path.with_suffix(".new"), **changes).replace(path)


def workers_of(address: str) -> set[int]:
    """Process ids of the workers that answer 30 requests, each on a new connection."""
    found = set()
    for _ in range(30):
        try:
            found.add(int(httpx2.get(f"{address}/info", timeout=1).json()["process"]))
        except httpx2.TransportError:
            continue
    return found


def metric(address: str, name: str) -> float:
    """The sum of a metric's samples; NaN if there is none, or the service does not answer."""
    try:
        lines = httpx2.get(f"{address}/metrics", timeout=5).text.splitlines()
    except httpx2.TransportError:
        return float("nan")
    found = [
        line for line in lines if line.startswith((f"captcha_ocr_{name} ", f"captcha_ocr_{name}{{"))
    ]
    return sum(float(line.split()[-1]) for line in found) if found else float("nan")
