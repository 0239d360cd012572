"""Bounds the memory that request bodies take, however many connections bring them."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import OVERLOADED, ProblemError
from service.api.handlers import network_of

_KEPT_SHARE = 1 / 8
"""Of the room, for bodies that are at most this share of it in turn: 192 KiB of 12 MiB."""


@dataclass(slots=True, eq=False)
class _Body:
    """What a request has brought so far.

    Args:
        task: receives it.
        client: whose it is, see `network_of`.
        taken: its bytes.
        given_up: whether it is refused to make room.
    """

    task: asyncio.Task[Any] | None
    client: str
    taken: int = 0
    given_up: bool = False


class BodyLimit:
    """ASGI middleware in which all bodies together take so many bytes at most.

    The limit of one body does not bound a thousand of them that arrive slowly. What a request has
    received counts until it is answered.

    Where there is no room, the largest body that is still arriving is given up for a smaller one:
    otherwise two clients that never finish their requests would keep out all others. If there is
    none, it is the largest of the address that sends most, for one that sends less than half of
    that. A part of the room is for small bodies, unless a large one is alone: two batches take
    seconds to be read, and cannot be given up meanwhile.

    Args:
        max_bytes: a request for which there is no room gets a `ProblemError` from its `receive`.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._free = self._most = max_bytes
        self._kept = int(_KEPT_SHARE * max_bytes)
        self._small = int(_KEPT_SHARE * self._kept)
        self._arriving: set[_Body] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        body = _Body(asyncio.current_task(), network_of(scope.get("client")))

        async def limited() -> Message:
            try:
                message = await receive()
            except asyncio.CancelledError:
                if body.given_up and body.task is not None:
                    body.task.uncancel()
                    raise _no_room() from None
                raise
            size = len(message.get("body", b""))
            self._make_room(body, size)
            self._free -= size
            body.taken += size
            if message.get("more_body", False):
                self._arriving.add(body)
            else:
                self._arriving.discard(body)
            return message

        try:
            await self._app(scope, limited, send)
        finally:
            self._arriving.discard(body)
            self._free += body.taken

    def _make_room(self, body: _Body, size: int) -> None:
        """Gives up larger bodies, until `size` bytes more of this one fit.

        Raises:
            ProblemError: they do not fit.
        """
        while size > self._free - self._kept_from(body, size):
            largest = max(self._arriving, key=attrgetter("taken"), default=body)
            if largest.taken <= body.taken + size:
                largest = self._largest_of_a_heavy_client(body, size)
            if largest.task is None:
                raise _no_room()
            self._arriving.discard(largest)
            self._free += largest.taken
            largest.taken = 0
            largest.given_up = True
            largest.task.cancel()  # it waits for more, and nothing else

    def _largest_of_a_heavy_client(self, body: _Body, size: int) -> _Body:
        """Of the one that sends most, if twice as much as that of a body of `size` bytes more.

        Raises:
            ProblemError: it does not.
        """
        by_client = Counter[str]()
        for one in self._arriving:
            by_client[one.client] += one.taken
        most = max(by_client, key=by_client.__getitem__, default=body.client)
        if by_client[most] <= 2 * (by_client[body.client] + size):
            raise _no_room()
        return max((one for one in self._arriving if one.client == most), key=attrgetter("taken"))

    def _kept_from(self, body: _Body, size: int) -> int:
        """The room that a body of `size` bytes more cannot have."""
        is_small = body.taken + size <= self._small
        is_alone = self._free + body.taken == self._most
        return 0 if is_small or is_alone else self._kept


def _no_room() -> ProblemError:
    return ProblemError(
        OVERLOADED, "Too many bytes are arriving at once; send this one again later."
    )
