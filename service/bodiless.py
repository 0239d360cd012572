"""Answers HEAD wherever there is a GET."""

from starlette.types import ASGIApp, Receive, Scope, Send


class Bodiless:
    """ASGI middleware that has HEAD answered as GET (RFC 9110, 9.3.2); uptime monitors send it.

    The server, which knows what was asked, leaves the body out.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)
