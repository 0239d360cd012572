"""Refuses pictures that would wait too long, before anything is made of their requests."""

from typing import Any, Protocol

from typing_extensions import override

from service.api.errors import OVERLOADED, REASON
from service.server.familiar import FamiliarHeads
from service.server.pacing import Resting
from service.server.protocol import MOST_PIPELINED, BoundedProtocol

OVERLOAD = "overload"
"""The key of the lifespan state that holds an `Overload`."""

_BY_APPLICATION = 12
"""What a refusal costs that the application gives, in those that are given here."""


class Overload(Protocol):
    """What the application knows of the load."""

    def refusal(self) -> bytes | None:
        """The whole answer to a picture that arrives now, if it is refused; asked once for each."""

    def refused(self, connection: Resting, weight: int = 1) -> None:
        """Hears of requests that have been, on a connection on which others may follow."""


class RefusingProtocol(BoundedProtocol):
    """One connection, on which pictures may be refused.

    The application would refuse them too, at several times the cost; at ten times the load that
    can be carried, refusing is most of the work. So a request that only differs in its body from
    one that was refused is not even parsed.

    Args:
        heads: of requests that were refused on any connection.
    """

    def __init__(self, *args: Any, heads: FamiliarHeads, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heads = heads
        self._beginning = b""
        """What is being parsed, if it begins one."""
        self._asked = False
        """Whether the request that has just arrived is known not to be refused."""
        self._refused = False
        """Whether the request that is arriving has been answered already."""
        self._rests = False

    @override
    def data_received(self, data: bytes) -> None:
        self._asked = self.between and self._takes_refusals and self._heads.recognize(data)
        if self._asked and (answer := self._refusal()):
            self.transport.write(answer)
            self._end_of_refused()
            return
        self._beginning = data if self.between else b""
        super().data_received(data)
        self._beginning = b""

    @override
    def head_complete(self) -> None:
        if not self._asked and self._is_refusable() and (answer := self._refusal()):
            if not self._takes_refusals:
                raise ValueError("refusals that nobody takes")
            self._refused = True
            self.transport.write(answer)
        else:
            super().head_complete()

    @override
    def message_complete(self) -> None:
        if not self._refused:
            super().message_complete()
            return
        self._refused = False
        self._end_of_refused()
        if self._beginning:
            self._heads.remember(self._beginning, self.headers)

    @override
    def may_answer(self) -> bool:
        return not self._refused and super().may_answer()

    @override
    def on_response_complete(self) -> None:
        cycle = None if self.pipeline else self.cycle
        super().on_response_complete()
        if cycle is not None and cycle.scope.get(REASON) == OVERLOADED.name:
            self.app_state[OVERLOAD].refused(self, _BY_APPLICATION)

    @override
    def shutdown(self) -> None:
        self.go_on()
        super().shutdown()

    def rest(self) -> bool:
        """Reads nothing until it goes on; tells whether it did not rest yet."""
        if self._rests or self.transport.is_closing():
            return False
        self._rests = True
        self.flow.pause_reading()
        return True

    def go_on(self) -> None:
        """Reads again, if anybody is there."""
        self._rests = False
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _end_of_refused(self) -> None:
        self.arrived()
        self.expect_another()
        self.app_state[OVERLOAD].refused(self)

    @property
    def _takes_refusals(self) -> bool:
        return not self.flow.write_paused and self.transport.unsent < MOST_PIPELINED

    def _is_refusable(self) -> bool:
        """Whether the request whose head has been parsed may be for a picture, and go without."""
        if self.parser.get_method() != b"POST":
            return False
        if self.url.startswith(b"/v2/"):  # which has errors of another shape
            return False
        if not self.parser.should_keep_alive() or self.parser.get_http_version() == "1.0":
            return False  # its answer has to say so, too
        # A page may only see an answer that names its origin.
        return all(name != b"origin" for name, _ in self.headers)

    def _refusal(self) -> bytes | None:
        overload: Overload | None = self.app_state.get(OVERLOAD)
        if overload is None or not self.is_idle or self.ends:
            return None
        return overload.refusal()
