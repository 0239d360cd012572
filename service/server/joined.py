"""Writing what belongs together at once."""

import asyncio
from collections.abc import Callable
from typing import Any

from typing_extensions import override


class Joined(asyncio.Transport):
    """A transport that sends what is written within one turn of the event loop together.

    The server writes the head of an answer and its body apart. Sent apart, they cost the service
    and its client a system call more, and the client's waking up for half an answer.

    Args:
        transport: of the connection.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._call_soon = loop.call_soon
        self._pieces: list[bytes] = []
        # What is not about writing is the transport's own.
        self.is_closing: Callable[[], bool] = transport.is_closing
        self.get_extra_info: Callable[..., Any] = transport.get_extra_info
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]

    @property
    def unsent(self) -> int:
        """Pieces that were written in this turn."""
        return len(self._pieces)

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._pieces:
            self._call_soon(self._flush)
        self._pieces.append(bytes(data))

    @override
    def write_eof(self) -> None:
        self._flush()
        self._transport.write_eof()

    @override
    def close(self) -> None:
        self._flush()
        self._transport.close()

    @override
    def abort(self) -> None:
        self._pieces = []
        self._transport.abort()

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and not self._transport.is_closing():
            self._transport.writelines(pieces)
