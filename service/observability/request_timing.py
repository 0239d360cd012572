"""Where the time of one request goes.

Whoever does a part of the work leaves marks here; what observes the request makes metrics and
traces of them when it has been answered.
"""

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from starlette.types import Scope

from service.ocr.recognizer import Recognizer

TIMELINE = "captcha_ocr.timeline"
"""Where a request's scope holds its `Timeline`."""

T = TypeVar("T")


Interval = tuple[float, float]
"""When something began and ended."""


class Read(NamedTuple):
    """When some pictures waited for a thread, were decoded and went through the model."""

    wait: Interval
    decode: Interval
    infer: Interval


class Timeline:
    """Marks of one request, in seconds of `time.perf_counter`."""

    __slots__ = ("began", "model_version", "reads", "receive_began", "receive_ended")

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.receive_began = self.receive_ended = 0.0
        """When its body began to be read, and had been taken apart; 0: never."""
        self.reads: list[Read] = []
        """Of pictures that were read, not of those that were refused; added to by any thread."""
        self.model_version: str | None = None
        """Of the model that has read them; None: none has."""

    @classmethod
    def of(cls, scope: Scope) -> "Timeline":
        """That of a request; one that nobody looks at, if the request has none."""
        return scope.get(TIMELINE) or cls()

    @property
    def inferred(self) -> float:
        """When the model had seen the last of its pictures; 0: never."""
        return max((read.infer[1] for read in self.reads), default=0.0)

    def receiving(self) -> None:
        """Marks that the body is read from now on."""
        self.receive_began = time.perf_counter()

    def received(self) -> None:
        """Marks that the body is there."""
        self.receive_ended = time.perf_counter()

    def timed(
        self, recognizer: Recognizer, work: Callable[[], T], decode: Interval | None = None
    ) -> Callable[[], T]:
        """The same work for a thread, with marks of when it waited and called the model.

        Args:
            decode: as for `note`.
        """
        waits = decode[1] if decode else time.perf_counter()

        def run() -> T:
            began = time.perf_counter()
            result = work()
            self.note((waits, began), recognizer, decode)
            return result

        return run

    def note(self, wait: Interval, recognizer: Recognizer, decode: Interval | None = None) -> None:
        """Marks what this thread has had the model read since it waited, if it has.

        Args:
            decode: when the pictures were decoded; default: by this thread, until the model ran.
        """
        began = wait[1]
        infer = recognizer.inferred
        if infer[0] >= began:  # and not by earlier work of this thread
            self.reads.append(Read(wait, decode or (began, infer[0]), infer))
            self.model_version = recognizer.metadata.version
