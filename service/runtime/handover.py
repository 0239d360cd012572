"""Where work waits for a thread: a queue that hands over what can be done together at once."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

Work = Callable[[Sequence[Any]], Sequence[Any]]
"""Gives for each item its result, or the exception that stands in its place."""


class Task:
    """One item of work, and who waits for it.

    Tasks of the same `work` can be done together.
    """

    __slots__ = ("future", "gone", "item", "submitted", "weight", "work")

    def __init__(
        self,
        work: Work,
        item: Any,
        future: "asyncio.Future[Any]",
        gone: Callable[[], bool],
        weight: int,
    ) -> None:
        self.work = work
        self.item = item
        self.future = future
        self.gone = gone
        self.weight = weight
        self.submitted = time.monotonic()


class Handover:
    """A queue that wakes one thread for each task: the one that has slept for the shortest time.

    Its caches are the warmest. `queue.SimpleQueue` wakes one thread after the other instead, which
    costs a request several per cent of its time.

    Args:
        threads: that will `get` tasks, and tell when they are `done`.
        most: tells of so many tasks that wait, how many a thread is given at once at the most.
    """

    def __init__(self, threads: int, most: Callable[[int], int]) -> None:
        self._free = threads
        self._most = most
        self._lock = Lock()
        self._waiting: deque[Task] = deque()
        self._asleep: list[Lock] = []
        self._closed = False
        self.backlog = -threads
        """Pictures that wait, less the threads that are free for them; below 0 some threads are."""
        self.begun = 0
        """Pictures that threads have."""

    @property
    def all_busy(self) -> bool:
        """Whether no thread is free."""
        return not self._free

    def put(self, tasks: Sequence[Task]) -> None:
        """Hands tasks over."""
        with self._lock:
            self._waiting += tasks
            self.backlog += sum(task.weight for task in tasks)
            alarms = [self._asleep.pop() for _ in tasks[: len(self._asleep)]]
        for alarm in alarms:
            alarm.release()

    def get(self) -> list[Task]:
        """Waits for tasks: those that can be done with the first one, or none at the end.

        They are this thread's fair share of what waits. It takes no task that another thread is
        free for, and never waits for more of them.
        """
        alarm = Lock()
        alarm.acquire()
        while True:
            with self._lock:
                if self._waiting:
                    return self._share()
                if self._closed:
                    return []
                self._asleep.append(alarm)
            alarm.acquire()

    def _share(self) -> list[Task]:
        waiting = self._waiting
        share = min(self._most(len(waiting)), math.ceil(len(waiting) / self._free))
        tasks = [waiting.popleft()]
        while len(tasks) < share and waiting[0].work == tasks[0].work:
            tasks.append(waiting.popleft())
        pictures = sum(task.weight for task in tasks)
        self._free -= 1
        self.begun += pictures
        self.backlog += 1 - pictures
        return tasks

    def done(self, tasks: Sequence[Task]) -> None:
        """Tells that this thread is free; best before who waits for it can hand over the next.

        Args:
            tasks: that it got.
        """
        with self._lock:
            self._free += 1
            self.begun -= sum(task.weight for task in tasks)
            self.backlog -= 1

    def close(self) -> None:
        """Has threads go when nothing waits any more."""
        with self._lock:
            self._closed = True
            alarms, self._asleep = self._asleep, []
        for alarm in alarms:
            alarm.release()
