"""HTTP/1.1 on one connection: uvicorn's protocol with timeouts, and with limits on headers.

uvicorn waits for ever for the rest of a request and for a client to take its answer, reads headers
of any size, and loses answers if a malformed request follows. Here every wait for a client has a
timeout, a malformed request is answered after the requests before it, and the rules of RFC 9112 on
`Host`, versions and transfer codings are enforced.
"""

import asyncio
import fcntl
import re
import socket
import struct
import termios
from array import array
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, NamedTuple

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
    parse_url,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.errors import (
    BAD_REQUEST,
    HEADERS_TOO_LARGE,
    OVERLOADED,
    TIMEOUT,
    UNSUPPORTED_CODING,
    Kind,
    ProblemError,
    ProblemResponse,
)
from service.api.handlers import CLIENT_GONE, network_of
from service.api.routes import DRAINING
from service.server.connections import Connections

MAX_FIELDS = 100
"""Most header fields of a request, and most parameters of its query, counted by ampersands. Each
takes memory or the event loop's time, however short it is; browsers send about 20 fields."""

_MAX_PATH_BYTES = 1024
"""Longest path of a request, in bytes. To route a path of 16 kB takes the event loop and a thread
milliseconds."""

MIN_CHUNK_BYTES = 256
"""Smallest average size of a body's chunks, in bytes. Each chunk takes 3 µs of the event loop."""

_SPARE_CHUNKS = 128
"""Chunks that a body may have beyond that average, since it may end with some small chunks. With
4096, 64 clients that send only such chunks would take a second of the event loop each time."""

_MAX_PIPELINED = 16
"""Most requests of one connection that wait for the answers to earlier requests."""

_MAX_DISCARDED = 16 << 20
"""Bytes that are read and dropped after the last answer. A client that sends more is cut off."""

_SHUTDOWN_SECONDS = 0.25
"""How long an idle connection stays open at a shutdown: a request may be on its way."""

_LINE_BYTES = len(b": \r\n")
_FIELD_BYTES = 128
"""Memory overhead of a header field, in bytes, in addition to its name and value."""

_WAITING_BYTES = 4096
"""Memory overhead of a pipelined request, in bytes, in addition to its header fields and body."""

_HOST = re.compile(rb"[\w.~!$&'()*+,;=%:\[\]-]*", re.ASCII)


def _refusal(error: BaseException | None) -> tuple[Kind, str]:
    """The problem and its detail for an error of the parser or of one of its callbacks."""
    if isinstance(error, HttpParserCallbackError):
        error = error.__context__
    if isinstance(error, ProblemError):
        return error.kind, error.detail
    if isinstance(error, MemoryError):
        return OVERLOADED, "The service is short of memory; send this request again later."
    if isinstance(error, HttpParserInvalidURLError):
        return BAD_REQUEST, "The address is invalid; percent-encode characters beyond ASCII in it."
    return BAD_REQUEST, "This is not a valid HTTP/1.1 request; see RFC 9112."


class _AnswerTransport:
    """The transport that an answer is written to. Writes its head and its first part together, in
    one system call.

    `close` waits for a client that still sends: closing a connection with unread bytes resets it,
    and the client may lose the answer (RFC 9112, 9.6). It also waits for a client that has not
    taken the whole answer: the system would keep the rest for minutes, for any number of
    connections.

    Args:
        has_body: whether anything is written after the head.
    """

    def __init__(self, protocol: "Protocol", has_body: bool = True) -> None:
        self._protocol = protocol
        self.is_closing = protocol.transport.is_closing
        self._head = None if has_body else b""

    def write(self, data: bytes) -> None:
        """Writes a part of the answer, unless the connection is lost."""
        if self._head is None and not data.startswith(b"HTTP/1.1 100"):
            self._head = data
            return
        if self._head:
            data, self._head = self._head + data, b""
        if not self.is_closing():
            self._protocol.write(data)

    def close(self) -> None:
        """Closes the connection, at once or when the client has stopped sending."""
        if self._head:
            self.write(b"")
        self._protocol.close()


class Request:
    """ASGI application that passes one request to another application. It frees the request's
    memory when the application begins to answer.

    Attributes:
        cycle: uvicorn's object for this request and its answer.
        bytes: memory that `Connections.take` has counted for this request.
        waiting_bytes: the part of `bytes` that was counted while earlier requests were answered.
        head_bytes: the part of `bytes` for the head of a pipelined request.
        refusal: kind and detail of the `ProblemError` that the application gets when it asks for
            the body; None: it gets the body.
        done: whether the application has begun to answer, or has ended.
    """

    cycle: RequestResponseCycle

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        self._app = app
        self._connections = connections
        self.bytes = self.waiting_bytes = self.head_bytes = 0
        self.refusal: tuple[Kind, str] | None = None
        self.done = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""

        async def receive_or_raise() -> Message:
            message = await receive()
            if self.refusal is not None:
                raise ProblemError(*self.refusal)
            return message

        def send_and_release(message: Message) -> Awaitable[None]:
            self._release()  # at once, since the client may take minutes for the answer
            return send(message)

        try:
            await self._app(scope, receive_or_raise, send_and_release)
        finally:
            self._release()

    def _release(self) -> None:
        if not self.done:
            self.done = True
            self.cycle.body = bytearray()
            self._connections.release(self)


class _Wait(NamedTuple):
    """What a connection waits for.

    Args:
        what: identifies the wait; it changes when another wait begins.
        seconds: the timeout; None: there is none.
        progress: bytes that have been transferred so far; enough new bytes restart the timeout.
    """

    what: tuple[str, int]
    seconds: float | None
    progress: int


class Protocol(HttpToolsProtocol):
    """One connection.

    Args:
        connections: all connections of the process.
    """

    def __init__(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._settings = connections.settings
        self._connections = connections
        self._requests = 0  # requests begun so far
        self._arriving = False  # whether a request has begun and is not complete
        self._request: Request | None = None  # the arriving request, once its head is complete
        self.arriving_since = 0.0  # when its head was complete, in seconds of the event loop
        self._field_bytes = self._fields = 0  # size and number of header and trailer fields
        self._line_bytes = 0  # size of the last line, which the parser has not reported yet
        self._in_data = False  # whether the last bytes received belong to a body, not to a line
        self._body_bytes = 0  # bytes of bodies in the data that is being parsed
        self._missing_bytes = 0  # bytes that the body lacks for the number of its chunks
        self._received_bytes = self._discarded_bytes = self._written_bytes = 0
        self._discards = False  # whether received data is dropped: the last answer is given or due
        self._may_linger = True  # whether to wait for the client before the connection is closed
        self._sends = False  # whether the client was still sending when its last answer ended
        self._lingers = False  # whether it only waits for the client to take all and stop sending
        self._half_closed = False  # whether the client has closed its side
        self.address = ""  # see `network_of`
        self._last = False  # whether the next request is the last one
        self._wait: _Wait | None = None  # see `check`
        self._since = 0.0  # when `_wait` began

    # Called by the transport.

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = network_of(self.client)
        self._connections.opened(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.closed(self)
        super().connection_lost(exc)
        # Drops references, so that memory is freed now and not at the next garbage collection.
        for _, request in self.pipeline:
            self._connections.release(request)  # type: ignore[arg-type]
        self.pipeline.clear()
        self.cycle = self.app = self._request = None  # type: ignore[assignment]

    @override
    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if self._discards:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > _MAX_DISCARDED:
                self.abort()
            return
        self._body_bytes = 0
        try:
            self._feed(data)
            self._bound_line(data)
        except (ProblemError, HttpParserError) as error:
            self.refuse(*_refusal(error))

    @override
    def eof_received(self) -> bool:  # type: ignore[override]
        """Tells whether the connection stays open for answers that are due or not yet taken."""
        self._half_closed = True
        if self._arriving and not self._discards:
            self.refuse(BAD_REQUEST, "The request ended before it was complete.")
        elif self._answering:
            self.cycle.keep_alive = False
        elif self._untaken:
            self.close()
        return self._answering or self._untaken

    @override
    def shutdown(self) -> None:
        """Closes the connection after its request, or after a short wait if there is none."""
        self._last = True
        if self._answering:
            self.cycle.keep_alive = False
        elif not self._arriving:
            self.loop.call_later(_SHUTDOWN_SECONDS, self._close_if_idle)

    # Called by the parser.

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._requests += 1
        self._arriving, self._request = True, None
        self._in_data = False
        self._field_bytes = self._fields = self._line_bytes = self._missing_bytes = 0
        self.scope["extensions"] = {CLIENT_GONE: self.transport.is_closing}  # type: ignore[dict-item]

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._field_bytes += len(name) + len(value) + _LINE_BYTES
        self._line_bytes = 0
        self._bound_head()
        # A trailer field is no header field (RFC 9110, 6.5.1). No route uses cookies, but FastAPI
        # parses them: before Python 3.11.10 and 3.12.6, that takes 0.25 s for 16 kB.
        if self._request is None and name.lower() != b"cookie":
            super().on_header(name, value.rstrip(b" \t"))

    @override
    def on_headers_complete(self) -> None:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if self.parser.should_upgrade() and method != b"CONNECT":
            return  # `_feed` parses the request again, without its offer of another protocol
        self._field_bytes += len(self.url)
        self._line_bytes = 0
        self._bound_head()
        self._check_head(method, version)
        if version == "1.0":
            self.expect_100_continue = False
        request = self.app = Request(self.config.loaded_app, self._connections)
        super().on_headers_complete()
        request.cycle = self.cycle
        transport = _AnswerTransport(self, method != b"HEAD")
        self.cycle.transport = transport  # type: ignore[assignment]
        if self._last or self.app_state[DRAINING].is_set():
            self.cycle.keep_alive = False
        if self.pipeline:
            head = _WAITING_BYTES + self._field_bytes + self._fields * _FIELD_BYTES
            try:
                self._connections.take(self, request, head)
            except ProblemError:
                self.pipeline.popleft()
                raise
            request.head_bytes = head
        self._request, self.arriving_since = request, self.loop.time()

    def on_chunk_header(self) -> None:
        """Called when a chunk of the body, or the trailer, begins."""
        self._in_data = False
        self._missing_bytes += MIN_CHUNK_BYTES
        if self._missing_bytes > _SPARE_CHUNKS * MIN_CHUNK_BYTES:
            detail = f"The body has tiny chunks; send at least {MIN_CHUNK_BYTES} bytes in each."
            raise ProblemError(BAD_REQUEST, detail)

    def on_chunk_complete(self) -> None:
        """Called when a chunk of the body ends."""
        self._in_data = False

    @override
    def on_body(self, body: bytes) -> None:
        self._in_data = True
        self._body_bytes += len(body)
        self._missing_bytes -= len(body)
        if self._request is not None and not self._request.done:
            self._connections.take(self, self._request, len(body))
            super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        if self._request is None:
            return  # `_feed` parses this request again
        self._arriving, self._request = False, None
        self._in_data = False
        self._connections.used(self)
        cycle = self.cycle
        if not self.parser.should_keep_alive():  # a trailer may have changed this
            cycle.keep_alive = False
        if not cycle.response_complete:
            super().on_message_complete()
            if not self.pipeline:
                # uvicorn would read on only when the application asks for more of the body.
                self.flow.resume_reading()
            return
        cycle.more_body = False
        if not cycle.keep_alive:
            self.close()

    # Called by uvicorn.

    @override
    def on_response_complete(self) -> None:
        if self.transport.is_closing() or self._lingers:
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    # Called by `Connections`.

    @property
    def untaken_bytes(self) -> int:
        """Bytes of answers that are in memory, because the system has no room for them."""
        return self.transport.get_write_buffer_size()

    @property
    def arriving_bytes(self) -> int:
        """Memory of the request that is still arriving, in bytes."""
        return 0 if self._request is None else self._request.bytes

    @property
    def network(self) -> str:
        """Network of the last request's client, which a trusted proxy may have named."""
        return network_of(self.cycle.scope["client"])

    def make_room(self) -> bool:
        """Closes the connection and returns true, unless a complete request is being answered."""
        due = self._answering and (self._request is None or self.pipeline)
        if due or self.flow.write_paused:
            return False
        if self._arriving and not self._discards:
            detail = "There are too many connections; send this again later."
            self.refuse(OVERLOADED, detail, linger=False)
        else:
            self.abort()
        return True

    def abort(self) -> None:
        """Closes the connection at once. The service and the system drop untaken answers."""
        if self._untaken:
            now = struct.pack("ii", 1, 0)  # linger for 0 s: see socket(7)
            with suppress(OSError):
                self.transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, now
                )
        self.transport.abort()

    def refuse(self, kind: Kind, detail: str, linger: bool = True) -> None:
        """Answers the request that is arriving with a problem, and then closes the connection.

        Args:
            linger: whether to wait for a client that still sends.
        """
        self._discards, self._may_linger = True, linger
        self._arriving = False
        cycle, request, self._request = self.cycle, self._request, None
        if request is not None:
            # The application answers this request, or has done so. It gets the refusal when it
            # asks for the body, and logs and counts it.
            self._connections.release(request, request.head_bytes)
            request.refusal = kind, detail
            cycle.keep_alive = False
            cycle.body = bytearray()
            cycle.message_event.set()
            if cycle.response_complete:
                self.close()
            return
        super().on_message_begin()
        request = Request(ProblemResponse(kind, detail), self._connections)
        self.url, self.app = b"/", request
        super().on_headers_complete()
        request.cycle = self.cycle
        self.cycle.transport = _AnswerTransport(self)  # type: ignore[assignment]
        self.cycle.keep_alive = False

    @property
    def _untaken(self) -> bool:
        """Whether the client has not taken all answers."""
        return self._taken_bytes < self._written_bytes

    @property
    def _taken_bytes(self) -> int:
        """Bytes of answers that the client has acknowledged, as far as the system tells.

        Bytes in the system's buffer do not count: a slow client may take minutes for them, and the
        system takes more only in pieces that last many seconds.
        """
        queued = array("i", [0])
        with suppress(OSError, ValueError):  # the connection is lost
            fcntl.ioctl(self.transport.get_extra_info("socket"), termios.TIOCOUTQ, queued)
        return self._written_bytes - self.untaken_bytes - queued[0]

    def write(self, data: bytes) -> None:
        """Writes a part of an answer."""
        self._written_bytes += len(data)
        self.transport.write(data)
        self._connections.written(len(data), self.loop)

    def check(self, now: float) -> None:
        """Closes the connection if it has waited for its client too long."""
        if self._lingers and not ((self._sends and not self._half_closed) or self._untaken):
            self.transport.close()
        before, wait = self._wait, self._waits_for()
        if before is None or wait.what != before.what:
            self._wait, self._since = wait, now
            return
        if wait.seconds is None or now - self._since < wait.seconds:
            return
        if wait.progress - before.progress >= self._settings.min_bytes_per_second * wait.seconds:
            self._wait, self._since = wait, now
            return
        self._wait = None
        if self._arriving and not self._discards and not self.flow.write_paused:
            detail = (
                f"Too little of the request arrived within {wait.seconds:g} s; "
                f"send at least {self._settings.min_bytes_per_second:g} bytes a second."
            )
            self.refuse(TIMEOUT, detail)
        else:
            self.abort()

    def _waits_for(self) -> _Wait:
        seconds, number = self._settings.request_seconds, self._requests
        if self.transport.is_closing() or self._lingers:
            return _Wait(("close", 0), seconds, self._taken_bytes)
        if self.flow.write_paused:
            return _Wait(("take", number), seconds, self._taken_bytes)
        if self._discards or self.flow.read_paused:
            return _Wait(("answer", number), None, 0)
        if self._arriving or not number:
            return _Wait(("request", number), seconds, self._received_bytes)
        if self._answering:
            return _Wait(("answer", number), None, 0)
        return _Wait(("idle", number), self._settings.keep_alive_seconds, 0)

    # Called by an answer's transport.

    def close(self) -> None:
        """Closes the connection after its last answer."""
        if self._lingers:
            return
        self._sends = (self._arriving or self._discards) and not self._half_closed
        if not ((self._sends or self._untaken) and self._may_linger):
            self.transport.close()
        elif not self.transport.is_closing():
            self._lingers = self._discards = True
            self.flow.resume_reading()
            self.transport.write_eof()

    @property
    def _answering(self) -> bool:
        """Whether a request has no answer yet, or only a part of it."""
        return self.cycle is not None and not self.cycle.response_complete

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except HttpParserUpgrade as offer:
                # The request offers another protocol, which need not be accepted (RFC 9110, 7.8).
                # The parser reads no body after an offer, so it gets the request without it.
                data = self._head_without_offer() + data[offer.args[0] :]
                self.parser = HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _head_without_offer(self) -> bytes:
        line = (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        kept = [header for header in self.headers if header[0] != b"upgrade"]
        fields = b"".join(b"%b: %b\r\n" % header for header in kept)
        return b"%b %b HTTP/%b\r\n%b\r\n" % (*line, fields)

    def _check_head(self, method: bytes, version: str) -> None:
        """Refuses what the parser allows, but not RFC 9112 or the limits of this service."""
        if method == b"CONNECT":
            raise ProblemError(BAD_REQUEST, "This service is not a proxy.")
        if version not in ("1.0", "1.1"):
            raise ProblemError(BAD_REQUEST, "The version must be HTTP/1.1 or HTTP/1.0.")
        if not self.url.startswith(b"/") and parse_url(self.url).path is None:
            raise ProblemError(BAD_REQUEST, "The address has no path.")
        if len(self.url.partition(b"?")[0]) > _MAX_PATH_BYTES:
            raise ProblemError(BAD_REQUEST, f"The path has over {_MAX_PATH_BYTES} bytes.")
        if self.url.count(b"&") > MAX_FIELDS:
            raise ProblemError(BAD_REQUEST, f"The query has over {MAX_FIELDS} parameters.")
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or (version == "1.1" and not hosts):
            raise ProblemError(BAD_REQUEST, "There must be one Host field (RFC 9112, 3.2).")
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise ProblemError(BAD_REQUEST, "The value of Host is not valid (RFC 9112, 3.2).")
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and version == "1.0":
            raise ProblemError(BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding (RFC 9112, 6.1).")
        if codings and codings != [b"chunked"]:
            raise ProblemError(UNSUPPORTED_CODING, "The only supported transfer coding is chunked.")
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise ProblemError(BAD_REQUEST, "Too many requests wait on this connection.")

    def _bound_head(self) -> None:
        limit = self._settings.max_header_bytes
        if self._field_bytes + self._line_bytes > limit or self._fields > MAX_FIELDS:
            detail = f"At most {limit} bytes in {MAX_FIELDS} header fields are read."
            raise ProblemError(HEADERS_TOO_LARGE, detail)

    def _bound_line(self, data: bytes) -> None:
        """Limits the last line of the data, which no callback of the parser has received yet."""
        end = 0 if self._in_data else len(data) - data.rfind(b"\n", 0, max(0, len(data) - 2)) - 1
        end = min(end, len(data) - self._body_bytes)  # a chunk that has just ended is not a line
        self._line_bytes = end if end < len(data) else self._line_bytes + end
        if self._line_bytes and self._arriving:
            self._bound_head()

    def _close_if_idle(self) -> None:
        if not (self._answering or self._arriving or self.transport.is_closing()):
            self.transport.close()
