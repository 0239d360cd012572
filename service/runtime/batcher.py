"""Threads that read pictures, and a queue before them that is never long.

What would wait too long is refused at once instead: past its capacity a service that queues
everything answers nobody in time. The event loop hands over what takes long, the model above all,
and goes on, so that health checks never wait for it.

What waits and can be done together is: a model needs less time for each of four pictures than for a
single one, and a thread that hands over four answers wakes the event loop once. What comes in one
turn of the event loop is handed over together for that. A free thread takes what is there and waits
for no company, so that a lone request is as fast as ever. Of a long queue it takes more at once.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

from service.runtime.handover import Handover, Task, Work
from service.runtime.placement import Place

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741

_QUARTERS = 4
"""Of a long queue, one is for one thread at the most: nobody is to wait for nearly all others."""

_SMOOTHING = 0.05
"""Weight of the newest duration in the mean that waiting times are foretold from."""


class OverloadedError(Exception):
    """The queue is full; `retry_seconds` tells when to come back."""

    def __init__(self, retry_seconds: int) -> None:
        super().__init__(f"come back in {retry_seconds} s")
        self.retry_seconds = retry_seconds


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


class Pool:
    """Runs work in threads, the first come first; use it from one event loop only.

    Args:
        threads: pieces of work that run at the same time.
        most_waiting: pictures that wait for a thread at most.
        most_seconds: that one of them may have to wait.
        at_once: pictures that a thread does together at most.
        in_a_row: the same of a long queue, in which nobody waits much longer for that.
        observe: is given the seconds that each of several pieces of work done together waited for a
            thread, those that they had it, and their pictures.
    """

    def __init__(
        self,
        threads: int,
        most_waiting: int,
        most_seconds: float,
        at_once: int = 1,
        in_a_row: int = 0,
        observe: Callable[[Sequence[float], float, int], None] = lambda waits, work, pictures: None,
    ) -> None:
        self.threads = threads
        self._most_waiting = most_waiting
        self.most_seconds = most_seconds
        self._observe = observe
        self.in_flight = 0
        """Pictures that wait or are being read."""
        self.mean_seconds = 0.0
        """A recent picture's time in its thread."""
        self._expected = 0
        self._submitted: list[Task] = []
        """To be handed over in the loop's next turn."""
        self._loop = asyncio.get_running_loop()
        self._at_once = at_once
        self._in_a_row = in_a_row
        self._tasks = Handover(threads, self._most_together)
        for number in range(threads):
            Thread(target=self._work, args=[number], name=f"reader-{number}", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Pictures that wait for a thread."""
        return max(0, self._backlog)

    @property
    def _backlog(self) -> int:
        return self._tasks.backlog + sum(task.weight for task in self._submitted)

    def soon_done(self, pictures: int) -> bool:
        """Whether so many are known to be read within the time that a picture may wait."""
        return 0 < pictures * self.mean_seconds <= self.most_seconds

    def _most_together(self, waiting: int) -> int:
        """Of so many that wait, for one thread."""
        row = min(self._in_a_row, waiting // _QUARTERS)
        row -= row % self._at_once  # the rest would be read on its own
        return row if row and self.soon_done(row) else self._at_once

    def retry_seconds(self) -> int:
        """When to come back, if a picture more would wait too long, or be one too many; else 0."""
        waiting = self._backlog + self._expected
        # Whoever finds an idle thread is served, however long the work.
        if waiting < 0:
            return 0
        # Of what is being done together, half is still to be done, on the average.
        begun = max(0, self._tasks.begun - self.threads)
        seconds = (waiting + 1 + begun / 2) * self.mean_seconds / self.threads
        full = waiting >= self._most_waiting or seconds > self.most_seconds
        return max(1, math.ceil(seconds)) if full else 0

    def admit(self) -> None:
        """Does nothing, unless a picture more is to be refused.

        Raises:
            OverloadedError: it is.
        """
        if seconds := self.retry_seconds():
            raise OverloadedError(seconds)

    def expect(self) -> None:
        """Counts a picture that has been admitted as waiting, until the loop's next turn.

        Of the many requests that may arrive in one turn, none is handed over before the next.
        """
        if not self._expected:
            self._loop.call_soon(self._expect_nothing)
        self._expected += 1

    def _expect_nothing(self) -> None:
        self._expected = 0

    async def run(
        self,
        work: Callable[[], T],
        gone: Callable[[], bool] = lambda: False,
        pictures: int = 0,
    ) -> T:
        """The result of `work`, from a thread, for a request that has been admitted.

        Args:
            gone: tells, from any thread, that nobody waits for the result any more; work that
                still waits is then not done.
            pictures: how many the work reads; of work that reads none, nothing is counted.

        Raises:
            OverloadedError: it waited too long.
            ClientGoneError: it was not done.
            Exception: whatever `work` raises.
        """
        return await self._submit(lambda _: [work()], None, gone, pictures)

    async def run_together(
        self,
        work: Callable[[Sequence[I]], Sequence[T | Exception]],
        item: I,
        gone: Callable[[], bool] = lambda: False,
    ) -> T:
        """The result of `work` for one picture, perhaps done with others that wait.

        Args:
            work: gives for each item its result or its exception. If it raises, each item is tried
                alone, so that what is wrong with one harms no other.
            gone: as for `run`.

        Raises:
            OverloadedError: it would wait too long, or did.
            ClientGoneError, Exception: as `run` does.
        """
        self.admit()
        return await self._submit(work, item, gone, 1)

    async def _submit(self, work: Work, item: Any, gone: Callable[[], bool], pictures: int) -> Any:
        future = self._loop.create_future()
        self.in_flight += pictures
        try:
            if not self._submitted:
                self._loop.call_soon(self._hand_over)
            self._submitted.append(Task(work, item, future, gone, pictures))
            return await future
        finally:
            self.in_flight -= pictures
            # A refusal that it holds has this frame in its traceback: a circle, and only the
            # garbage collector, which may not come round for hours, would find the picture in it.
            del future

    def _hand_over(self) -> None:
        tasks, self._submitted = self._submitted, []
        self._tasks.put(tasks)

    def close(self) -> None:
        """Ends the threads when they have done what they were given."""
        self._hand_over()
        self._tasks.close()

    def _work(self, number: int) -> None:
        place = Place(number, self.threads)
        while tasks := self._tasks.get():
            place.keep(own=self._tasks.all_busy)
            self._do(tasks)
            del tasks  # who waits for the next ones holds on to nothing

    def _do(self, tasks: Sequence[Task]) -> None:
        started = time.monotonic()
        refusals = [self._refusal(task, started) for task in tasks]
        due = [task for task, refusal in zip(tasks, refusals, strict=True) if not refusal]
        results = iter(_outcomes(due))
        outcomes = [refusal or next(results) for refusal in refusals]
        took = time.monotonic() - started
        self._tasks.done(tasks)
        with suppress(RuntimeError):  # the event loop has ended, and whoever waited with it
            self._loop.call_soon_threadsafe(self._finish, tasks, outcomes, took)
        if pictures := sum(task.weight for task in due):  # and the answers are on their way
            self._observe([started - task.submitted for task in due], took, pictures)

    def _refusal(self, task: Task, now: float) -> Exception | None:
        if task.gone() or task.future.cancelled():
            return ClientGoneError()
        if now - task.submitted > 2 * self.most_seconds:
            return OverloadedError(1)
        return None

    def _finish(self, tasks: Sequence[Task], outcomes: Sequence[Any], seconds: float) -> None:
        pictures = 0
        for task, outcome in zip(tasks, outcomes, strict=True):
            failed = isinstance(outcome, Exception)
            pictures += 0 if failed else task.weight
            if task.future.done():
                continue
            if failed:
                task.future.set_exception(outcome)
            else:
                task.future.set_result(outcome)
        if pictures:
            new = _SMOOTHING if self.mean_seconds else 1.0
            self.mean_seconds += new * (seconds / pictures - self.mean_seconds)


def _outcomes(tasks: Sequence[Task]) -> Sequence[Any]:
    """The outcomes of tasks of the same work."""
    if not tasks:
        return []
    try:
        return tasks[0].work([task.item for task in tasks])
    except Exception as error:
        return [error] if len(tasks) == 1 else [_outcomes([task])[0] for task in tasks]
