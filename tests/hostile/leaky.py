"""The service with a leak of 1 kB per request, which the soak must find."""

import sys
from typing import Any

from starlette.requests import Request

import service.api.app
from service.api.handlers import Engine
from service.server.main import main

LEAK = 1024


class LeakyEngine(Engine):
    """Keeps 1 kB of memory for each request."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._kept: list[bytes] = []

    def admit(self, request: Request, batch: bool = False) -> None:
        """Admits the request as usual, and leaks memory."""
        self._kept.append(b"x" * (LEAK - sys.getsizeof(b"")) + b"")
        super().admit(request, batch)


if __name__ == "__main__":
    service.api.app.Engine = LeakyEngine  # type: ignore[assignment, attr-defined]
    sys.exit(main())
