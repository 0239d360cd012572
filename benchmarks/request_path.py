"""`make bench-path`: counts the project's modules and calls that one `POST /predict` passes.

A multipart request goes over a socket to a running service. In every thread, this counts the
modules of `service/` that the request passes, the calls of their functions, and the changes from
one module to another.
"""

import argparse
import http.client
import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from types import FrameType
from typing import Any

import service
from benchmarks.markdown import table
from benchmarks.payloads import example_pictures, multipart
from service.server.main import main as serve

_FOLDER = f"{os.path.dirname(service.__file__)}/"  # noqa: PTH120  # the form of file names in code objects
_OCR = "ocr/"
_ATTEMPTS = 5
"""Requests that are sent. The one with the fewest calls counts: timers of the service add calls."""


class _Calls:
    """Records the modules of the service's functions that are called, by thread, in order."""

    def __init__(self) -> None:
        self.of_thread: dict[int, list[str]] = {}

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        """A function for `sys.setprofile`."""
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(_FOLDER):
            module = file.removeprefix(_FOLDER)
            self.of_thread.setdefault(threading.get_ident(), []).append(module)

    def take(self) -> list[list[str]]:
        """Gives the calls since the last time, a list for each thread."""
        taken, self.of_thread = self.of_thread, {}
        return [calls for calls in taken.values() if calls]


def _changes(calls: list[str]) -> int:
    return sum(before != after for before, after in itertools.pairwise(calls))


def _ask(calls: _Calls, port: int, found: list[list[list[str]]]) -> None:
    """Sends requests on one connection."""
    while not _is_ready(port):
        time.sleep(0.2)
    (request, *_) = multipart([example_pictures()["bndyp"]])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(1 + _ATTEMPTS):
            calls.take()
            connection.sendall(request)
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == http.client.OK, response.read()
            response.read()
            time.sleep(0.3)  # the work after an answer counts, too
            found.append(calls.take())


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _report(found: list[list[list[str]]]) -> None:
    threads = min(found[1:], key=lambda threads: sum(map(len, threads)))
    calls = [module for thread in threads for module in thread]
    modules = set(calls)
    rows = [
        ["own modules", f"{len(modules)}", "22"],
        ["of these in ocr/", f"{sum(module.startswith(_OCR) for module in modules)}", "9"],
        ["own calls", f"{len(calls)}", "190"],
        ["changes of module", f"{sum(map(_changes, threads))}", "70"],
    ]
    print(table(["one multipart POST /predict", "counted", "bar"], rows))
    print(table(["module", "calls"], [[name, f"{n}"] for name, n in Counter(calls).most_common()]))
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="models/captcha.onnx")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ["OCR_MODEL_PATH"] = parser.parse_args().model
    os.environ["OCR_PORT"] = str(port)
    calls, found = _Calls(), []  # type: ignore[var-annotated]

    def ask() -> None:
        try:
            _ask(calls, port, found)
            _report(found)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask).start()
    threading.setprofile(calls.note)
    sys.setprofile(calls.note)
    serve()


if __name__ == "__main__":
    main()
