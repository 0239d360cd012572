"""HTTP/1.1 with an end to waiting: uvicorn's protocol, and the bounds that it lacks.

uvicorn waits for ever for the rest of a request, and for a client to take its answer, and reads
headers of any size. Here requests have to arrive, and answers to be taken, within a time.
"""

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from typing_extensions import override

from service.api.errors import (
    BAD_REQUEST,
    HEADERS_TOO_LARGE,
    OVERLOADED,
    SECURITY_HEADERS,
    TIMEOUT,
    Kind,
    ProblemResponse,
)
from service.api.handlers import CLIENT_GONE
from service.server.connections import Connections
from service.server.deadline import Deadline
from service.server.head import CHUNK_BYTES, MOST_FIELDS, Head
from service.server.joined import Joined
from service.server.lingering import Lingering
from service.server.succession import SuccessiveProtocol

_LINGER_SECONDS = 0.25
"""How long a connection without a request stays open at the end: one may be on its way."""

MOST_PIPELINED = 16
"""Requests of one connection that wait for the answers to those before them."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a connection may take.

    Args:
        request_seconds: for a request to arrive, counted from its first byte, or, of the first
            one, from the beginning of the connection; and for an answer to be taken.
        max_header_bytes: lines of one request's headers, and its address.
    """

    request_seconds: float
    max_header_bytes: int


class BoundedProtocol(SuccessiveProtocol):
    """One connection."""

    transport: Joined

    def __init__(self, *args: Any, bounds: Bounds, others: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bounds = bounds
        self._others = others
        self._head = Head(bounds.max_header_bytes)
        self._last = False
        """Whether the request that arrives next is to be the last."""
        self._due = Deadline()
        """When the request that is arriving must have arrived."""
        self._unread = Deadline()
        """When the answers that are waiting must have been taken."""
        self._abort = Deadline()
        """When a connection that is being closed must be."""

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Joined(transport, self.loop))
        self._answers_to = Lingering(self.transport, self._sends_on)
        self._expect_request()
        self._others.add(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._others.remove(self)
        self._due.stop()
        self._unread.stop()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._abort.stop()
        # What refers to itself waits for the garbage collector, which seldom looks among so many
        # lasting objects: the memory of a thousand connections would stay.
        self.pipeline.clear()
        self.cycle = None  # type: ignore[assignment]
        del self._answers_to

    @override
    def data_received(self, data: bytes) -> None:
        if self._answers_to.begun:
            self._answers_to.discard(data)
            return
        if not self._due.runs:
            self._expect_request()
        self._head.received(len(data))
        behind_head = not (self.between or self.in_head)
        super().data_received(data)
        if self.in_head or (behind_head and not self.between and not self.in_body):
            self._head.parsed()
            if self._head.too_large and not self.transport.is_closing():
                self._refuse_headers()

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head.begin()
        if not self._due.runs:  # where it came together with the end of the one before
            self._expect_request()
        self.scope["extensions"] = {CLIENT_GONE: self.transport.is_closing}  # type: ignore[dict-item]

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._head.header(name, value)
        super().on_header(name, value.rstrip(b" \t"))  # RFC 9110, 5.5: no part of the value

    @override
    def head_complete(self) -> None:
        self._head.bound(len(self.url))
        if len(self.pipeline) >= MOST_PIPELINED:
            # uvicorn reads on after each answer, however many requests wait.
            raise ValueError("too many requests at once")
        super().head_complete()
        self.cycle.transport = self._answers_to  # type: ignore[assignment]  # as far as it uses it
        if self.ends:
            self.cycle.keep_alive = False

    def on_chunk_header(self) -> None:
        """The size of a chunk has arrived."""
        self._head.chunk()

    @override
    def body_arrived(self, body: bytes) -> None:
        self._head.body_arrived(len(body))
        super().body_arrived(body)

    @override
    def message_complete(self) -> None:
        self.arrived()
        super().message_complete()

    @override
    def send_400_response(self, msg: str) -> None:
        if self._head.too_large:
            self._refuse_headers()
        elif self._head.too_many_chunks:
            detail = f"The body comes in tiny chunks; send at least {CHUNK_BYTES} bytes in each."
            self._refuse(BAD_REQUEST, detail, sends=True)
        else:
            self._refuse(BAD_REQUEST, f"{msg} RFC 9112 says what HTTP/1.1 looks like.")

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread.start(self.loop, self._bounds.request_seconds, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        self._unread.stop()
        super().resume_writing()

    @override
    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        if self.transport.is_closing():
            self._abort_later()

    @override
    def shutdown(self) -> None:
        """Ends the connection after its request; without one, after a moment for one to come."""
        self._last = True
        if self.is_idle:
            self.loop.call_later(_LINGER_SECONDS, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def arrived(self) -> None:
        """A request has arrived as a whole."""
        self._due.stop()
        self._others.used(self)
        self._head.end_of_request()

    def give_way(self) -> bool:
        """Closes for want of room, unless a request that has arrived is being answered."""
        cycle = self.cycle
        arriving = cycle is not None and cycle.more_body and not cycle.response_started
        if self.pipeline or self.flow.write_paused or not (arriving or self.is_idle):
            return False
        if (self.in_head or arriving) and not self._answers_to.begun:
            self._refuse(OVERLOADED, "There are too many connections; send this again later.")
        else:
            self._end()
        return True

    @property
    def ends(self) -> bool:
        """Whether the connection is to end with the request that is arriving."""
        draining = self.app_state.get("draining")
        return self._last or (draining is not None and draining.is_set())

    def _sends_on(self) -> bool:
        """Whether the request that has just been answered has not arrived as a whole."""
        cycle = self.cycle
        return bool(cycle is not None and cycle.response_complete and cycle.more_body)

    def _close_if_idle(self) -> None:
        if self.is_idle:
            self._end()

    def _expect_request(self) -> None:
        self._due.start(self.loop, self._bounds.request_seconds, self._too_late)

    def _too_late(self) -> None:
        arriving = self.cycle is not None and not self.cycle.response_complete
        if arriving and self.cycle.response_started:
            self.transport.abort()
        elif self.in_head or arriving:
            self._refuse(TIMEOUT, f"It did not arrive within {self._bounds.request_seconds:g} s.")
        else:
            self._end()

    def _refuse_headers(self) -> None:
        limit = self._bounds.max_header_bytes
        self._refuse(
            HEADERS_TOO_LARGE,
            f"The headers are too large; at most {limit} bytes in {MOST_FIELDS} fields are read.",
            sends=True,
        )

    def _refuse(self, kind: Kind, detail: str, sends: bool = False) -> None:
        """Answers in place of the application, and closes.

        Args:
            sends: whether the client is likely to be still sending.
        """
        self._due.stop()
        if self.cycle is not None:
            # The application, if it waits for the rest of the request, learns that there is none.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.may_answer():
            self.transport.write(_last_answer(kind, detail))
            if sends:
                self.flow.resume_reading()
                self._answers_to.linger()
                self._abort_later()
                return
        self._end()

    def _end(self) -> None:
        self.transport.close()
        self._abort_later()

    def _abort_later(self) -> None:
        """Closing waits until what was written has been taken, which may be never."""
        if not self._abort.runs:
            self._abort.start(self.loop, self._bounds.request_seconds, self.transport.abort)


@lru_cache(maxsize=8)
def _last_answer(kind: Kind, detail: str) -> bytes:
    """Of a connection; written once, for those who hold connections do so by the thousand."""
    response = ProblemResponse(kind, detail, {"Connection": "close"} | SECURITY_HEADERS)
    head = f"HTTP/1.1 {kind.status} {HTTPStatus(kind.status).phrase}\r\n".encode()
    headers = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
    return head + headers + b"\r\n" + bytes(response.body)
