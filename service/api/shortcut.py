"""A way around routing for the few paths where it counts."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.errors import response_to

Endpoints = Mapping[str, tuple[str, Callable[[Request], Awaitable[Response]]]]
"""By the path of a route of the application: its method, and what gives the response."""


class Shortcut:
    """ASGI middleware that calls the endpoints of known paths itself.

    Finding a route and preparing its parameters costs FastAPI more than decoding a picture. The
    endpoints take the request and give the response, so nothing is left out by going around.

    Args:
        endpoints: to be called directly.
    """

    def __init__(self, app: ASGIApp, endpoints: Endpoints) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        found = self._endpoints.get(scope["path"]) if scope["type"] == "http" else None
        if found is None or found[0] != scope["method"]:
            await self._app(scope, receive, send)
            return
        try:
            response = await found[1](Request(scope, receive))
        except Exception as error:
            answer = response_to(error)
            if answer is None:
                raise
            response = answer
        await response(scope, receive, send)
