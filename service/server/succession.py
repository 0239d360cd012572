"""Requests that share a connection: each has its own end and its own answer."""

import math
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class SuccessiveProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which knows too little of what came before a request and behind it.

    Of a request that offers to go on by another protocol it loses the body, or takes it for the
    next request. Here the offer is not taken (RFC 9110, 7.8), and the request parsed again without
    it. `head_complete` and `message_complete` are called for requests that are to be answered, and
    `body_arrived`, in place of `on_body`, once for all of a body that has arrived at once: a
    megabyte may come in a million chunks.
    """

    between = True
    """Whether what arrives next begins a request."""
    in_head = False
    """Whether headers are arriving."""
    in_body = False
    """Whether there was some of a body in what has arrived last of the request that is arriving."""
    _idle_since = -math.inf
    """The event loop's time at which it last began to wait for another request."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._pieces: list[bytes] = []
        # No Python of ours for each of them.
        self.on_body = self._pieces.append  # type: ignore[assignment,method-assign]
        super().__init__(*args, **kwargs)

    @override
    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._feed(data)
        self.in_body = self._join_pieces()

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as offer:
                data = self._head_without_offer() + data[offer.args[0] :]
                self.parser = HttpRequestParser(self)
            except HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                break
            else:
                break

    @override
    def on_message_begin(self) -> None:
        self.between, self.in_head = False, True
        super().on_message_begin()

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:  # else it is a trailer, and no header (RFC 9110, 6.5.1)
            super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        self.in_head = False
        if not self.parser.should_upgrade():
            self.head_complete()
        elif self.parser.get_method() == b"CONNECT":
            raise ValueError("no proxy")

    @override
    def on_message_complete(self) -> None:
        self._join_pieces()
        self.between = True
        if not self.parser.should_upgrade():
            self.message_complete()

    def _join_pieces(self) -> bool:
        """Passes on what has arrived of a body; tells whether there is anything."""
        if not self._pieces:
            return False
        body = b"".join(self._pieces)
        self._pieces.clear()
        self.body_arrived(body)
        return True

    def body_arrived(self, body: bytes) -> None:
        """Some of a body has arrived."""
        if self.cycle is not None:  # else it is one that was answered without the application
            super().on_body(body)

    def head_complete(self) -> None:
        """The headers of a request have arrived."""
        super().on_headers_complete()

    def message_complete(self) -> None:
        """A request has arrived as a whole."""
        if self.cycle.response_complete:  # which it was early
            self.cycle.more_body = False
            self.expect_another()
        else:
            super().on_message_complete()
            if not self.pipeline:
                # uvicorn reads on when the application asks for more of the body, and this was all:
                # it would not be seen that the client hangs up.
                self.flow.resume_reading()

    def expect_another(self) -> None:
        """Waits for a request as long as there may be between two."""
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._wait_for_another(self.timeout_keep_alive)

    def _wait_for_another(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )

    @override
    def timeout_keep_alive_handler(self) -> None:
        rest = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if rest > 0:  # for there have been requests since that left the timer as it was
            self._wait_for_another(rest)
        elif self.is_idle and not self.in_head:
            super().timeout_keep_alive_handler()
        else:  # another came together with the end of the one before, and its own end waits anew
            self.timeout_keep_alive_task = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def may_answer(self) -> bool:
        """Whether what is written next would be taken for the answer to what arrives now.

        It would be for that to an earlier request which waits for its own, or for a second answer
        to the same one.
        """
        if self.pipeline or self.flow.write_paused:
            return False
        cycle = self.cycle
        if cycle is None or self.in_head or not cycle.more_body:
            return self.is_idle
        return not cycle.response_started

    def _head_without_offer(self) -> bytes:
        line = (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        kept = [header for header in self.headers if header[0] != b"upgrade"]
        fields = b"".join(b"%b: %b\r\n" % header for header in kept)
        return b"%b %b HTTP/%b\r\n%b\r\n" % (*line, fields)
