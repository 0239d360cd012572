"""A way around routing for the few paths that are asked for most."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.problems import response_to


class Shortcut:
    """ASGI middleware that calls the endpoints of known paths itself.

    Finding a route and preparing its parameters costs FastAPI more than decoding a picture. The
    endpoints take the request and give the response, so nothing is left out by going around.

    Args:
        endpoints: by the path that a POST is sent to; also routes of the application.
    """

    def __init__(
        self, app: ASGIApp, endpoints: Mapping[str, Callable[[Request], Awaitable[Response]]]
    ) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        found = scope["type"] == "http" and scope["method"] == "POST"
        endpoint = self._endpoints.get(scope["path"]) if found else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await endpoint(Request(scope, receive))
        except Exception as error:
            answer = response_to(error)
            if answer is None:
                raise
            response = answer
        await response(scope, receive, send)
