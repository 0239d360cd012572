"""Refuses pictures that would wait too long, before anything is made of their requests."""

from collections.abc import Callable
from typing import Any

from typing_extensions import override

from service.protocol import MOST_PIPELINED, BoundedProtocol

OVERLOADED_STATE = "overloaded"
"""The key of the lifespan state that holds an `Overloaded`."""

Overloaded = Callable[[], bytes | None]
"""The whole answer, if pictures that arrive now have to be refused."""


class RefusingProtocol(BoundedProtocol):
    """One connection, on which pictures may be refused.

    The application would refuse them too, at several times the cost; at ten times the load that
    can be carried, refusing is most of the work.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refused = False
        """Whether the request that is arriving has been answered already."""

    @override
    def head_complete(self) -> None:
        if answer := self._refusal():
            if self.flow.write_paused or self.transport.unsent >= MOST_PIPELINED:
                raise ValueError("refusals that nobody takes")
            self._refused = True
            self.transport.write(answer)
        else:
            super().head_complete()

    @override
    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    @override
    def message_complete(self) -> None:
        if not self._refused:
            super().message_complete()
            return
        self._refused = False
        self.arrived()
        self.expect_another()

    @override
    def may_answer(self) -> bool:
        return not self._refused and super().may_answer()

    def _refusal(self) -> bytes | None:
        overloaded: Overloaded | None = self.app_state.get(OVERLOADED_STATE)
        if overloaded is None or not self.is_idle or self.parser.get_method() != b"POST":
            return None
        if self.url.startswith(b"/v2/"):  # which has errors of another shape
            return None
        if not self.parser.should_keep_alive() or self.parser.get_http_version() == "1.0":
            return None  # its answer has to say so, too
        if any(name == b"origin" for name, _ in self.headers):
            return None  # a page may only see an answer that names its origin
        return None if self.ends else overloaded()
