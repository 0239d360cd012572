"""Both clients, and a server that gives scripted answers."""

import asyncio
import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from captcha_ocr_client import (
    AsyncClient,
    Client,
)

PREDICTION = {
    "text": "ab", "confidence": 0.9, "accepted": True, "characters": [], "alternatives": [],
    "reason": None, "model": {"name": "m", "version": "1"}, "of_a_later_version": 1,
}  # fmt: skip
OVERLOADED = {"type": "/problems/overloaded", "title": "Busy", "status": 503, "detail": "Later."}

Call = Callable[..., Any]


def with_client(address: str, call: Call, **options: Any) -> Any:
    with Client(address, **options) as client:
        return call(client)


def with_async_client(address: str, call: Call, **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(address, **options) as client:
            return await call(client)

    return asyncio.run(run())


both_clients = pytest.mark.parametrize("use", [with_client, with_async_client])


class ScriptedServer(ThreadingHTTPServer):
    """Gives its answers one after the other, repeats the last one, and records the requests.

    The header `Delay` of an answer is the seconds until the answer.
    """

    def __init__(self, *answers: tuple[int, dict[str, str], Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.requests: list[tuple[float, str, dict[str, str], bytes]] = []


class Handler(BaseHTTPRequestHandler):
    """Handles one request to a `ScriptedServer`."""

    server: ScriptedServer

    def do_POST(self) -> None:
        """Records the request, and gives the next answer."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests.append((time.monotonic(), self.path, dict(self.headers), body))
        answers = self.server.answers
        status, headers, answer = answers.pop(0) if len(answers) > 1 else answers[0]
        time.sleep(float(headers.get("Delay", 0)))
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        """Does the same as `do_POST`."""
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Logs nothing: pytest shows what matters."""
