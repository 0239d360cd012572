"""Bounds the memory that request bodies take, however many connections bring them."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import OVERLOADED, ProblemError


class BodyLimit:
    """ASGI middleware in which all bodies together take so many bytes at most.

    The limit of one body does not bound a thousand of them that arrive slowly. What a request has
    received counts until it is answered.

    Args:
        max_bytes: a request for which there is no room gets a `ProblemError` from its `receive`.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._free = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            size = len(message.get("body", b""))
            if size > self._free:
                raise ProblemError(
                    OVERLOADED, "Too many bytes are arriving at once; send this one again later."
                )
            self._free -= size
            taken += size
            return message

        try:
            await self._app(scope, limited, send)
        finally:
            self._free += taken
