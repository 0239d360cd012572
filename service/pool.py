"""Threads that read pictures, and a queue before them that is never long.

What would wait too long is refused at once instead: past its capacity a service that queues
everything answers nobody in time. The event loop hands work over and goes on, so that health
checks never wait for a picture.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_SMOOTHING = 0.05
"""Weight of the newest duration in the mean that waiting times are foretold from."""


class OverloadedError(Exception):
    """The queue is full; `retry_seconds` tells when to come back."""

    def __init__(self, retry_seconds: int) -> None:
        super().__init__(f"come back in {retry_seconds} s")
        self.retry_seconds = retry_seconds


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


class _Task(Generic[T]):
    """One piece of work, and who waits for it."""

    __slots__ = ("future", "gone", "submitted", "weight", "work")

    def __init__(
        self,
        work: Callable[[], T],
        future: "asyncio.Future[T]",
        gone: Callable[[], bool],
        weight: int,
    ) -> None:
        self.work = work
        self.future = future
        self.gone = gone
        self.weight = weight
        self.submitted = time.monotonic()


class _Handover:
    """A queue that wakes one thread for one task: the one that has slept for the shortest time.

    Its caches are the warmest. `queue.SimpleQueue` wakes one thread after the other instead, which
    costs a request several per cent of its time.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: deque[_Task[Any] | None] = deque()
        self._asleep: list[Lock] = []

    def put(self, task: _Task[Any] | None) -> None:
        with self._lock:
            self._waiting.append(task)
            alarm = self._asleep.pop() if self._asleep else None
        if alarm is not None:
            alarm.release()

    def get(self) -> _Task[Any] | None:
        """Waits for a task."""
        alarm = Lock()
        alarm.acquire()
        while True:
            with self._lock:
                if self._waiting:
                    return self._waiting.popleft()
                self._asleep.append(alarm)
            alarm.acquire()


class Pool:
    """Runs work in threads, the first come first; use it from one event loop only.

    Args:
        threads: pieces of work that run at the same time.
        most_waiting: pictures that wait for a thread at most.
        most_seconds: that one of them may have to wait.
        observe: is given the seconds that work waited for a thread, and had it.
    """

    def __init__(
        self,
        threads: int,
        most_waiting: int,
        most_seconds: float,
        observe: Callable[[float, float], None] = lambda wait, work: None,
    ) -> None:
        self.threads = threads
        self._most_waiting = most_waiting
        self._most_seconds = most_seconds
        self._observe = observe
        self.in_flight = 0
        """Pictures that wait or are being read."""
        self.mean_seconds = 0.0
        """A recent picture's time in its thread."""
        self._loop = asyncio.get_running_loop()
        self._tasks = _Handover()
        for number in range(threads):
            Thread(target=self._work, name=f"reader-{number}", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Pictures that wait for a thread."""
        return max(0, self.in_flight - self.threads)

    def admit(self, pictures: int = 1) -> None:
        """Refuses what would wait too long; cheap enough to be asked before a body is read.

        Raises:
            OverloadedError: so many pictures more would wait too long, or be too many.
        """
        # Whoever finds an idle thread is served, however long the work.
        if self.in_flight < self.threads:
            return
        seconds = (self.waiting + 1) * self.mean_seconds / self.threads
        if self.waiting + pictures > self._most_waiting or seconds > self._most_seconds:
            raise OverloadedError(max(1, math.ceil(seconds)))

    async def run(
        self,
        work: Callable[[], T],
        gone: Callable[[], bool] = lambda: False,
        pictures: int = 1,
        admitted: bool = False,
    ) -> T:
        """The result of `work`, from a thread.

        Args:
            gone: tells, from any thread, that nobody waits for the result any more; work that
                still waits is then not done.
            pictures: how many the work reads.
            admitted: it is part of something that has been admitted as a whole.

        Raises:
            OverloadedError: it would wait too long, or did.
            ClientGoneError: it was not done.
            Exception: whatever `work` raises.
        """
        if not admitted:
            self.admit(pictures)
        task = _Task(work, self._loop.create_future(), gone, pictures)
        self.in_flight += pictures
        try:
            self._tasks.put(task)
            return await task.future
        finally:
            self.in_flight -= pictures

    def close(self) -> None:
        """Ends the threads when they have done what they were given."""
        for _ in range(self.threads):
            self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            started = time.monotonic()
            try:
                if task.gone() or task.future.cancelled():
                    raise ClientGoneError
                if started - task.submitted > 2 * self._most_seconds:
                    raise OverloadedError(1)
                outcome: Any = task.work()
                failed = False
            except Exception as error:
                outcome, failed = error, True
            took = time.monotonic() - started
            seconds = took / task.weight
            try:
                self._loop.call_soon_threadsafe(self._finish, task.future, outcome, failed, seconds)
            except RuntimeError:
                return  # the event loop has ended, and whoever waited with it
            if not failed:  # and after the answer is on its way
                self._observe(started - task.submitted, took)

    def _finish(
        self, future: "asyncio.Future[Any]", outcome: Any, failed: bool, seconds: float
    ) -> None:
        if not future.done():
            if failed:
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        if not failed:
            new = _SMOOTHING if self.mean_seconds else 1.0
            self.mean_seconds += new * (seconds - self.mean_seconds)
