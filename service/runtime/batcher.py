"""Runs work on pictures in a few threads, behind a queue that is never long.

What would wait too long is refused at once: past its capacity, a service that queues everything
answers nobody in time. Items that wait are done together, up to four of them, since the model needs
less time for each of four pictures than for a single one. A thread that is free takes what is there
and waits for no company, so that a lone request is as fast as possible.

Pictures that take long wait in a lane of their own, which has one thread at most. A client that
sends many of them leaves the other threads to all other pictures. Requests with several pictures
wait in a third lane. Single pictures have their turn between two pieces of work of these lanes, and
are not refused for what waits there. Within a lane, clients take turns: the first has one that has
had none for a while.

All bookkeeping is done on the event loop, so that no locks are needed.
"""

import asyncio
import itertools
import math
import threading
import time
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

I = TypeVar("I")  # noqa: E741
T = TypeVar("T")

Work = Callable[[Sequence[I]], Sequence[T]]
"""Gives an outcome for each item, in their order."""

BATCH_SIZE = 4
"""Most items that a thread takes together. With more, the model needs no less time for each (`make
bench`), and all are answered later."""

_SMOOTHING = 0.05
"""Weight of the newest measurement in the mean time of a picture."""

_PAUSE_SECONDS = 0.01
"""For how long requests are collected that will be refused together."""

_MAX_GRACE_SECONDS = 0.5
"""An admitted request may wait for longer than the queue time, since its wait was only estimated:
for as long again, but at most this much longer. A part of several pictures may always wait so long:
to refuse it would waste what was done for the others."""

_MOST_BEGUN = 16
"""Clients that have had a turn, after which the next one begins. Where new ones come all the time,
one that comes often would wait for all of them."""

_client: ContextVar[str] = ContextVar("client", default="")
"""Whose request the current task is for."""


class OverloadedError(Exception):
    """There is no room for the request; `retry_seconds` tells when to send it again."""

    def __init__(self, retry_seconds: int) -> None:
        super().__init__(
            "More pictures arrive than can be read in time; send this one again later."
        )
        self.retry_seconds = retry_seconds


class ClientGoneError(Exception):
    """The client has closed the connection, so nobody waits for the answer."""


@dataclass(slots=True, eq=False)
class Lane:
    """Work that waits in one queue, and the pictures of it.

    Args:
        queue: what waits, in the order of its turns.
        turn: that of the newest work that was begun.
        begun: the turns of clients' newest work that was begun, those of this turn and the last.
        waiting: pictures that wait for a thread.
        running: pictures that are being read.
        threads: that do its work.
        mean_seconds: a recent picture's time in its thread.
        clients: of whom how much waits or is being done.
    """

    queue: "list[_Item]" = field(default_factory=list)
    turn: int = 0
    begun: dict[str, int] = field(default_factory=dict)
    waiting: int = 0
    running: int = 0
    threads: int = 0
    mean_seconds: float = 0.0
    clients: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class _Item:
    """Work that waits for a thread, or is being done: as a whole, by one thread.

    Args:
        values: that `work` is given; at most BATCH_SIZE.
        reads: whether they are pictures; the time of other work tells nothing about those.
        future: of the outcomes.
        turn: see `Batcher._next_turn`.
    """

    lane: Lane
    work: Work[Any, Any]
    values: Sequence[Any]
    reads: bool
    is_gone: Callable[[], bool]
    future: asyncio.Future[Any]
    submitted: float
    client: str
    turn: int
    deadline: asyncio.TimerHandle | None = None


class Batcher:
    """Admits, queues and runs work; use it from one event loop only.

    Args:
        threads: pieces of work that are done at the same time.
        queue_requests: pictures that may wait for a thread, in each lane.
        queue_seconds: that a request may probably have to wait.
        observe: is called after items were done together, with the seconds that each of them had
            waited, the seconds that they took, and the number of pictures among them.

    Raises:
        RuntimeError: the system allows no more threads.
    """

    def __init__(
        self,
        threads: int,
        queue_requests: int,
        queue_seconds: float,
        observe: Callable[[Sequence[float], float, int], None] = lambda waits, seconds, n: None,
    ) -> None:
        self.threads = threads
        self._queue_seconds = queue_seconds
        self._grace_seconds = min(queue_seconds, _MAX_GRACE_SECONDS)
        self.ordinary = Lane()
        self.batches = Lane()
        self.slow = Lane()
        self._yielding = deque([self.slow, self.batches])
        """The lanes that let ordinary work pass; the one that had its turn last is the last."""
        self._ordinary_is_next = False
        self._queue_requests = queue_requests
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="batcher")
        self._start_threads()
        self._jobs: set[Future[Any]] = set()
        self._pauses = False

    def _start_threads(self) -> None:
        """Starts all threads: the executor would do so when they are needed, which may fail."""
        barrier = threading.Barrier(self.threads)
        try:
            list(self._executor.map(lambda _: barrier.wait(), range(self.threads)))
        except RuntimeError:
            barrier.abort()
            raise

    @property
    def waiting(self) -> int:
        """Pictures that wait for a thread."""
        return sum(lane.waiting for lane in self._lanes)

    @property
    def in_flight(self) -> int:
        """Pictures that wait or are being read."""
        return self.waiting + sum(lane.running for lane in self._lanes)

    @property
    def _lanes(self) -> tuple[Lane, ...]:
        return (self.ordinary, *self._yielding)

    def admit(self, batch: bool = False, client: str = "") -> None:
        """Lets a request pass for which there is room; ask once, however many pictures it has.

        A request that finds nothing waiting is always admitted. Otherwise it counts what waits
        before its turn, so that who comes again as soon as it is answered keeps out nobody who
        comes seldom. For that of a client of whom much less waits than of another, the other's
        newest is refused in its place.

        Args:
            batch: whether it has several pictures. It may be refused for batches that wait, which a
                single picture never is.
            client: whose request it is; what the same task submits is the same client's.

        Raises:
            OverloadedError: it would have to wait for too long, or the queue is full.
        """
        _client.set(client)
        self._check(self.ordinary, self.threads)
        if batch:
            self._check(self.batches, self.threads)

    def _check(self, lane: Lane, threads: int) -> None:
        if not lane.waiting:
            return
        before = self._waiting_before(lane)
        # Of what the threads are doing, half is still to be done, on the average.
        expected = (before + lane.running / 2) * lane.mean_seconds / threads
        full = lane.waiting >= self._queue_requests
        waits_long = before and expected > self._queue_seconds
        if (full or waits_long) and not self._displace(lane):
            raise OverloadedError(max(1, math.ceil(expected)))

    def _waiting_before(self, lane: Lane) -> int:
        """The pictures that are read before one of the current client that comes now."""
        client = _client.get()
        if lane.clients.keys() <= {client}:
            return lane.waiting
        turn = self._next_turn(lane, client)
        return sum(len(item.values) for item in lane.queue if item.reads and item.turn <= turn)

    def _next_turn(self, lane: Lane, client: str) -> int:
        """That of new work: the one after that of the client's newest.

        Who has had no turn for a while is before all others, once (Goyal et al. 1996, start-time
        fair queueing, where that client would be among them).
        """
        own = (item.turn for item in reversed(lane.queue) if item.client == client)
        newest = next(own, lane.begun.get(client, lane.turn - 2))
        return max(lane.turn - 1, newest + 1)

    def _begin(self, item: "_Item") -> None:
        """Notes that an item waits no more, since a thread takes it."""
        lane = item.lane
        if item.turn > lane.turn or len(lane.begun) > _MOST_BEGUN:
            lane.turn = max(lane.turn + 1, item.turn)
            lane.begun = {one: turn for one, turn in lane.begun.items() if turn >= lane.turn - 1}
        lane.begun[item.client] = item.turn
        self._left(item)

    def _displace(self, lane: Lane) -> bool:
        """Refuses the newest of the client that has most here, if twice as much as this one."""
        most, count = max(lane.clients.items(), key=itemgetter(1), default=("", 0))
        newest = next((item for item in reversed(lane.queue) if item.client == most), None)
        if newest is None or count <= 2 * lane.clients[_client.get()] + 1:
            return False
        self._expire(newest)
        return True

    def pause(self) -> None:
        """Stops the event loop, when it has done what is to be done now, until a thread is free.

        It lasts for a hundredth of a second at most. Call it when a request was refused: those that
        arrive meanwhile are then refused together. To wake for each of them, in the middle of
        reading, takes more of the processors' time than the refusal.
        """
        if not self._pauses:
            self._pauses = True
            self._loop.call_soon(self._pause)

    def _pause(self) -> None:
        self._pauses = False
        if len(self._jobs) >= self.threads:
            wait(self._jobs, _PAUSE_SECONDS, FIRST_COMPLETED)

    async def run(
        self,
        work: Callable[[], T],
        is_gone: Callable[[], bool] = lambda: False,
        slow: bool = False,
        batch: bool = False,
    ) -> T:
        """The result of work other than reading pictures.

        Args:
            slow: as for `submit`.
            batch: whether it is for several pictures, and waits among those of `submit`.

        Raises:
            OverloadedError, ClientGoneError, Exception: as `submit`.
        """
        lane = self.slow if slow else self.batches if batch else self.ordinary
        (result,) = await self._outcomes(lane, lambda _: [work()], [None], is_gone, reads=False)
        return result

    async def submit(
        self,
        work: Work[I, T],
        items: Sequence[I],
        is_gone: Callable[[], bool] = lambda: False,
        slow: bool = False,
    ) -> list[T]:
        """The outcomes for the pictures of one request, in their order.

        They wait for threads a few at a time, so that those of other requests have their turn
        between them. Where they take long, one thread is left to others, if there are several.

        Args:
            work: items of equal `work` may be done together, those of other requests, too. If it
                raises, each request's are tried alone, so that what is wrong with one harms no
                other.
            is_gone: whether the client has gone; work that still waits is then not done.
            slow: whether each takes long. One thread at a time is used for such pictures, and where
                other work waits, it has its turn between two of them.

        Raises:
            OverloadedError: one waited too long, or would have to in a lane other than `ordinary`.
            ClientGoneError: they were not done.
            Exception: whatever `work` raises; the rest is then given up.
        """
        lane = self.slow if slow else self.batches if len(items) > 1 else self.ordinary
        if lane is not self.ordinary:
            self._check(lane, 1 if slow else self.threads)
        return await self._outcomes(lane, work, items, is_gone, reads=True)

    async def _outcomes(
        self,
        lane: Lane,
        work: Work[I, T],
        items: Sequence[I],
        is_gone: Callable[[], bool],
        reads: bool,
    ) -> list[T]:
        outcomes: list[T] = []
        futures: list[asyncio.Future[Any]] = []
        done: set[asyncio.Future[Any]] = set()
        running: set[asyncio.Future[Any]] = set()
        try:
            for part in self._parts(items, 1 if lane is self.slow else BATCH_SIZE):
                while len(running) >= self._max_threads(lane):
                    self._dispatch()
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for future in done:
                        future.result()
                future = self._enqueue(lane, work, part, is_gone, reads)
                futures.append(future)
                running.add(future)
            self._dispatch()
            for future in futures:
                outcomes += await future
            return outcomes
        finally:
            for future in futures:
                future.cancel()
            # An exception refers to this frame by its traceback. Without references back to it, the
            # memory of a refused request is freed at once, not when the garbage collector runs.
            futures, done, running, future = [], set(), set(), None  # type: ignore[assignment]

    def close(self) -> None:
        """Ends the threads when they have done what they have begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _max_threads(self, lane: Lane) -> int:
        """How many threads a lane may use, and how many parts of one request wait in it."""
        if lane is self.slow:
            return 1
        takes_long = BATCH_SIZE * lane.mean_seconds > self._queue_seconds
        yields = lane is self.batches and takes_long and self.threads > 1
        return self.threads - yields

    def _parts(self, items: Sequence[I], most: int) -> Iterator[Sequence[I]]:
        """As many for each thread, of nearly the same size, at most `most` items each."""
        rounds = math.ceil(len(items) / (self.threads * most))
        count = min(len(items), self.threads * rounds)
        limits = [len(items) * number // count for number in range(count + 1)] if count else []
        return (items[start:end] for start, end in itertools.pairwise(limits))

    def _enqueue(
        self,
        lane: Lane,
        work: Work[Any, Any],
        values: Sequence[Any],
        is_gone: Callable[[], bool],
        reads: bool,
    ) -> "asyncio.Future[Any]":
        future = self._loop.create_future()
        now, client = time.perf_counter(), _client.get()
        turn = self._next_turn(lane, client)
        item = _Item(lane, work, values, reads, is_gone, future, now, client, turn)
        insort(lane.queue, item, key=attrgetter("turn"))
        lane.waiting += len(values) if reads else 0
        lane.clients[client] += 1
        return future

    def _dispatch(self) -> None:
        """Gives waiting work to free threads, and a deadline to work that must wait longer."""
        while len(self._jobs) < self.threads and (lane := self._next_lane()):
            if group := self._next_group(lane):
                self._start(group)
        for lane in self._lanes:
            grace = _MAX_GRACE_SECONDS if lane is self.batches else self._grace_seconds
            for item in lane.queue:
                item.deadline = item.deadline or self._loop.call_later(
                    self._queue_seconds + grace, self._expire, item
                )

    def _next_lane(self) -> Lane | None:
        """The lane whose turn it is, if any work may begin."""
        if not (self._ordinary_is_next and self.ordinary.queue):
            for lane in self._yielding:
                if lane.queue and lane.threads < self._max_threads(lane):
                    return lane
        return self.ordinary if self.ordinary.queue else None

    def _next_group(self, lane: Lane) -> list[_Item]:
        """A free thread's fair share of what waits in a lane: items of the same work."""
        share = min(BATCH_SIZE, math.ceil(len(lane.queue) / (self.threads - len(self._jobs))))
        if lane is self.slow:
            share = 1
        group: list[_Item] = []
        size = 0
        while lane.queue:
            item = lane.queue[0]
            together = group and item.work == group[0].work and size + len(item.values) <= share
            if group and not together:
                break
            lane.queue.pop(0)
            self._begin(item)
            if not item.future.done() and not item.is_gone():
                group.append(item)
                size += len(item.values)
                continue
            self._ended(item)
            if not item.future.done():
                _fail(item, ClientGoneError())
        return group

    def _ended(self, item: _Item) -> None:
        """Notes that an item neither waits nor is being done."""
        clients = item.lane.clients
        clients[item.client] -= 1
        if not clients[item.client]:
            del clients[item.client]

    def _left(self, item: _Item) -> None:
        """Notes that an item waits no more."""
        lane = item.lane
        lane.waiting -= len(item.values) if item.reads else 0
        if item.deadline is not None:
            item.deadline.cancel()
            item.deadline = None  # it refers to the item

    def _start(self, group: list[_Item]) -> None:
        values: list[Any] = []
        for item in group:
            values += item.values
        pictures = len(values) if group[0].reads else 0
        lane = group[0].lane
        lane.running += pictures
        lane.threads += 1
        self._ordinary_is_next = lane is not self.ordinary
        if self._ordinary_is_next:
            self._yielding.remove(lane)
            self._yielding.append(lane)
        started = time.perf_counter()
        job = self._executor.submit(group[0].work, values)
        self._jobs.add(job)

        def finish(job: Future[Sequence[Any]]) -> None:
            seconds = time.perf_counter() - started
            with suppress(RuntimeError):  # the event loop has ended, and whoever waited with it
                self._loop.call_soon_threadsafe(
                    self._finish, group, job, pictures, started, seconds
                )

        job.add_done_callback(finish)

    def _finish(
        self,
        group: list[_Item],
        job: Future[Sequence[Any]],
        pictures: int,
        started: float,
        seconds: float,
    ) -> None:
        lane = group[0].lane
        self._jobs.discard(job)
        lane.running -= pictures
        lane.threads -= 1
        self._dispatch()  # first, since the thread has nothing to do meanwhile
        if job.cancelled():
            return
        error = job.exception()
        if error is not None and len(group) > 1:
            for item in group:
                self._start([item])
            return
        outcomes = iter(job.result() if error is None else [])
        for item in group:
            self._ended(item)
            own = list(itertools.islice(outcomes, len(item.values)))
            if item.future.done():
                continue
            if error is None:
                item.future.set_result(own)
            else:
                _fail(item, error)
        if pictures and error is None:
            weight = _SMOOTHING if lane.mean_seconds else 1.0
            lane.mean_seconds += weight * (seconds / pictures - lane.mean_seconds)
            self._observe([started - item.submitted for item in group], seconds, pictures)

    def _expire(self, item: _Item) -> None:
        item.lane.queue.remove(item)
        self._left(item)
        self._ended(item)
        if not item.future.done():
            _fail(item, OverloadedError(1))


def _fail(item: _Item, error: BaseException) -> None:
    item.future.set_exception(error)
    item.future.exception()  # or else asyncio logs it where nobody waits for it any more
