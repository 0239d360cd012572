"""Answers HEAD wherever there is a GET."""

from starlette.types import ASGIApp, Receive, Scope, Send

_ASKED = "captcha_ocr.method"
"""Where a scope holds the method that was asked for, if it is answered as another."""


class Bodiless:
    """ASGI middleware that has HEAD answered as GET (RFC 9110, 9.3.2); uptime monitors send it.

    The server, which knows what was asked, leaves the body out.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", _ASKED: "HEAD"}
        await self._app(scope, receive, send)


def asked_method(scope: Scope) -> str:
    """The method of a request, as its client sent it."""
    method: str = scope.get(_ASKED, scope["method"])
    return method
