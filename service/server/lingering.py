"""Closing a connection on which the client still sends, so that it hears why."""

import asyncio
from collections.abc import Callable

_MOST_BYTES = 16 << 20
"""That are thrown away behind an answer; a client that sends more may lose it."""


class Lingering:
    """What answers are written to: a transport whose `close` first only ends the writing.

    To close with bytes that nobody has read resets the connection, and the client then sees that in
    place of its answer (RFC 9112, 9.6).

    Args:
        transport: of the connection.
        sends: tells whether the client still sends the request that has been answered.
    """

    def __init__(self, transport: asyncio.Transport, sends: Callable[[], bool]) -> None:
        self._transport = transport
        self._sends = sends
        self._discarded = 0
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.begun = False
        """Whether what arrives is to be discarded; whoever began has to end it in time, too."""

    def close(self) -> None:
        """Closes, or begins to linger."""
        if self._sends():
            self.linger()
        else:
            self._transport.close()

    def linger(self) -> None:
        """Begins to."""
        self.begun = True
        self._transport.write_eof()

    def discard(self, data: bytes) -> None:
        """Takes what arrives meanwhile."""
        self._discarded += len(data)
        if self._discarded > _MOST_BYTES:
            self._transport.abort()
