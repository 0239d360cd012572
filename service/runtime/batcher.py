"""Runs work on pictures in a few threads, behind a short queue.

A request that would wait too long is refused at once: a service that queues everything beyond its
capacity answers nobody in time. Up to four waiting items are processed as a batch, since the model
needs less time per picture for four pictures than for one. A free thread takes the items that wait,
and does not wait for a full batch, so that a lone request is as fast as possible.

Slow pictures wait in a lane of their own, which uses at most one thread. A client that sends many
of them leaves the other threads to all other pictures. Requests with several pictures wait in a
third lane. Single pictures take their turn between two pieces of work of these lanes, and are not
refused because of work that waits in them. Within a lane, clients share the time of the threads: of
two clients, the one that has used less of it lately goes first.

All bookkeeping is done on the event loop, so that no locks are needed.
"""

import asyncio
import itertools
import math
import threading
import time
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeVar

I = TypeVar("I")  # noqa: E741
T = TypeVar("T")

Work = Callable[[Sequence[I]], Sequence[T]]
"""Returns an outcome for each item, in the order of the items."""

BATCH_SIZE = 4
"""Most items in a batch. With more, the model needs no less time per item (`make bench`), and all
are answered later."""

_SMOOTHING = 0.05
"""Weight of the newest measurement in the mean time of a picture."""

_PAUSE_SECONDS = 0.01
"""How long requests are collected that will be refused together."""

_MAX_GRACE_SECONDS = 0.5
"""An admitted request may wait longer than the queue time, since its wait was only an estimate: as
long again, but at most this much longer. A part of a request with several pictures may always wait
this much longer: to refuse it would waste the work for the other parts."""

_HALF_LIFE_SECONDS = 4.0
"""Time after which a second of a thread that a client has used counts half."""

_MAX_USED_SECONDS = 1.0
"""Most that counts of what a client has used. Otherwise a client that sends all the time would have
no turn for seconds when another begins to do so, too."""

_LEAST_SECONDS = 0.001
"""What a client has used is forgotten below this. It is also the expected time of a picture until
one has been read."""


class OverloadedError(Exception):
    """There is no room for the request; it may be sent again after `retry_seconds`."""

    def __init__(self, retry_seconds: int) -> None:
        super().__init__(
            "More pictures arrive than can be read in time; send this one again later."
        )
        self.retry_seconds = retry_seconds


class ClientGoneError(Exception):
    """The client has closed the connection, so nobody waits for the answer."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who waits for the result of work.

    Args:
        client: identifies the client that has sent the request; clients share the threads.
        is_gone: tells whether the client has closed the connection. Work that still waits is then
            dropped.
    """

    client: str = ""
    is_gone: Callable[[], bool] = lambda: False


NOBODY = Caller()
"""The caller of work that belongs to no request."""


@dataclass(slots=True, eq=False)
class Lane:
    """One queue of work, and counts of its work and pictures.

    Args:
        queue: items that wait, in the order of their turns.
        used: by client, the seconds of threads that it has used lately.
        halved_at: when these seconds were last halved, in seconds of `time.perf_counter`.
        waiting: pictures that wait for a thread.
        running: pictures that are being read.
        threads: threads that work for this lane.
        mean_seconds: moving average of a picture's time in its thread.
    """

    queue: "list[_Item]" = field(default_factory=list)
    used: dict[str, float] = field(default_factory=dict)
    halved_at: float = 0.0
    waiting: int = 0
    running: int = 0
    threads: int = 0
    mean_seconds: float = 0.0


@dataclass(slots=True, eq=False)
class _Item:
    """A piece of work for one thread, which waits or is being processed.

    Args:
        values: arguments of `work`; at most BATCH_SIZE.
        reads: whether the values are pictures. Other work does not count for the time of pictures.
        future: receives the outcomes.
        turn: when it would begin if the clients shared the threads fairly; see
            `Batcher._next_turn`.
    """

    lane: Lane
    work: Work[Any, Any]
    values: Sequence[Any]
    reads: bool
    caller: Caller
    future: asyncio.Future[Any]
    submitted: float
    turn: float
    deadline: asyncio.TimerHandle | None = None


class Batcher:
    """Admits, queues and runs work; use it from one event loop only.

    Args:
        threads: number of threads.
        queue_requests: most pictures that may wait for a thread, in each lane.
        queue_seconds: longest estimated wait of a request that is admitted.
        observe: called after each batch with the seconds that each of its items had waited, the
            seconds that the batch took, and its number of pictures.
        weigh: the part of a batch's time that an outcome took, in any unit. Clients that share a
            batch are charged by it; if it is 0 for all outcomes, by their numbers of pictures.

    Raises:
        RuntimeError: the system allows no more threads.
    """

    def __init__(
        self,
        threads: int,
        queue_requests: int,
        queue_seconds: float,
        observe: Callable[[Sequence[float], float, int], None] = lambda waits, seconds, n: None,
        weigh: Callable[[Any], float] = lambda outcome: 0.0,
    ) -> None:
        self.threads = threads
        self._queue_seconds = queue_seconds
        self._grace_seconds = min(queue_seconds, _MAX_GRACE_SECONDS)
        self.ordinary = Lane()
        self.batches = Lane()
        self.slow = Lane()
        self._yielding = deque([self.slow, self.batches])
        """The lanes that let ordinary work pass; the lane that was served last is the last."""
        self._ordinary_is_next = False
        self._queue_requests = queue_requests
        self._observe = observe
        self._weigh = weigh
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="batcher")
        self._start_threads()
        self._jobs: set[Future[Any]] = set()
        self._pauses = False

    def _start_threads(self) -> None:
        """Starts all threads now; the executor would start them when needed, which may fail."""
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

    def admit(self, caller: Caller = NOBODY, batch: bool = False) -> None:
        """Admits a request if there is room for it; call it once per request.

        A request is always admitted if nothing waits. Otherwise its wait is estimated from the
        pictures that come before its turn, so that clients that send again as soon as they are
        answered do not keep out clients that send seldom. If the queue is full, the work whose turn
        is last is refused: the new request, or work that waits.

        Args:
            batch: whether the request has several pictures. Only such a request may be refused
                because of batches that wait.

        Raises:
            OverloadedError: the request would wait too long, or the queue is full.
        """
        self._check(self.ordinary, caller.client, self.threads)
        if batch:
            self._check(self.batches, caller.client, self.threads)

    def _check(self, lane: Lane, client: str, threads: int) -> None:
        if not lane.waiting:
            return
        place = bisect_right(lane.queue, self._next_turn(lane, client), key=attrgetter("turn"))
        is_last = place == len(lane.queue)
        before = lane.waiting
        if not is_last:  # at ten times the capacity, counting takes an eighth of a refusal's time
            before = sum(len(item.values) for item in lane.queue[:place] if item.reads)
        # Half of the pictures that are being read are still to be read, on average.
        expected = (before + lane.running / 2) * lane.mean_seconds / threads
        waits_long = before and expected > self._queue_seconds
        full = lane.waiting >= self._queue_requests
        if waits_long or (full and is_last):
            raise OverloadedError(max(1, math.ceil(expected)))
        if full:
            self._expire(lane.queue[-1])

    def _next_turn(self, lane: Lane, client: str) -> float:
        """The turn of a client's new work: later than now by the time that the client has used
        lately, and behind its own work that waits.

        So clients that send all the time come behind a client that sends seldom, whatever their
        requests cost. Nobody waits for ever, since turns of later work are later. (Start-time fair
        queueing, Goyal et al. 1996, forgets what a client has used as soon as nothing of it waits.)
        """
        used = min(lane.used.get(client, 0.0), _MAX_USED_SECONDS)
        turn = time.perf_counter() + used
        for item in reversed(lane.queue):
            if item.caller.client == client:
                picture_seconds = lane.mean_seconds or _LEAST_SECONDS
                return max(turn, item.turn + picture_seconds * len(item.values))
        return turn

    def _charge(self, lane: Lane, client: str, seconds: float) -> None:
        """Adds to the time of threads that a client has used."""
        halvings = (time.perf_counter() - lane.halved_at) // _HALF_LIFE_SECONDS
        if halvings:
            lane.halved_at += halvings * _HALF_LIFE_SECONDS
            halved = {one: used * 0.5**halvings for one, used in lane.used.items()}
            lane.used = {one: used for one, used in halved.items() if used > _LEAST_SECONDS}
        lane.used[client] = lane.used.get(client, 0.0) + seconds

    def pause(self) -> None:
        """Blocks the event loop until a thread is free, after the callbacks that are ready now.

        Blocks for 0.01 s at most. Call it after a request was refused: requests that arrive
        meanwhile are then refused together. To wake the event loop for each of them, while threads
        read, takes more CPU time than the refusal.
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
        caller: Caller = NOBODY,
        slow: bool = False,
        batch: bool = False,
    ) -> T:
        """The result of work other than reading pictures.

        Args:
            slow: as for `submit`.
            batch: whether the work is for several pictures, and waits in the lane of batches.

        Raises:
            OverloadedError, ClientGoneError, Exception: as for `submit`.
        """
        lane = self.slow if slow else self.batches if batch else self.ordinary
        (result,) = await self._outcomes(lane, lambda _: [work()], [None], caller, reads=False)
        return result

    async def submit(
        self,
        work: Work[I, T],
        items: Sequence[I],
        caller: Caller = NOBODY,
        slow: bool = False,
    ) -> list[T]:
        """The outcomes for the pictures of one request, in their order.

        A few pictures wait for threads at a time, so that other requests take turns with them. If
        batches take long, they leave one of several threads to other work.

        Args:
            work: items with equal `work` may be processed as a batch, also items of other requests.
                If a batch raises, each item in it is tried alone, so that one request's error does
                not affect other requests.
            slow: whether each picture takes long. Slow pictures use one thread at a time, and other
                work that waits takes its turn between two of them.

        Raises:
            OverloadedError: a picture waited too long, or would do so in a lane other than
                `ordinary`.
            ClientGoneError: the client has gone, so that work was dropped.
            Exception: raised by `work`; the rest of the request is then dropped.
        """
        lane = self.slow if slow else self.batches if len(items) > 1 else self.ordinary
        if lane is not self.ordinary:
            self._check(lane, caller.client, 1 if slow else self.threads)
        return await self._outcomes(lane, work, items, caller, reads=True)

    async def _outcomes(
        self,
        lane: Lane,
        work: Work[I, T],
        items: Sequence[I],
        caller: Caller,
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
                future = self._enqueue(lane, work, part, caller, reads)
                futures.append(future)
                running.add(future)
            self._dispatch()
            for future in futures:
                outcomes += await future
            return outcomes
        finally:
            for future in futures:
                future.cancel()
            # The traceback of an exception refers to this frame. Dropping references to the
            # exception frees the memory of a refused request without the garbage collector.
            futures, done, running, future = [], set(), set(), None  # type: ignore[assignment]

    def close(self) -> None:
        """Ends the threads when they have finished their current work."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _max_threads(self, lane: Lane) -> int:
        """How many threads a lane may use, and how many parts of one request may be in it."""
        if lane is self.slow:
            return 1
        takes_long = BATCH_SIZE * lane.mean_seconds > self._queue_seconds
        yields = lane is self.batches and takes_long and self.threads > 1
        return self.threads - yields

    def _parts(self, items: Sequence[I], most: int) -> Iterator[Sequence[I]]:
        """Parts of nearly equal size with at most `most` items each; as many for each thread."""
        rounds = math.ceil(len(items) / (self.threads * most))
        count = min(len(items), self.threads * rounds)
        limits = [len(items) * number // count for number in range(count + 1)] if count else []
        return (items[start:end] for start, end in itertools.pairwise(limits))

    def _enqueue(
        self,
        lane: Lane,
        work: Work[Any, Any],
        values: Sequence[Any],
        caller: Caller,
        reads: bool,
    ) -> "asyncio.Future[Any]":
        future = self._loop.create_future()
        turn = self._next_turn(lane, caller.client)
        item = _Item(lane, work, values, reads, caller, future, time.perf_counter(), turn)
        insort(lane.queue, item, key=attrgetter("turn"))
        lane.waiting += len(values) if reads else 0
        return future

    def _dispatch(self) -> None:
        """Gives waiting work to free threads, and sets a deadline for work that keeps waiting."""
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
        """The lane to take work from next; None if no work may begin."""
        if not (self._ordinary_is_next and self.ordinary.queue):
            for lane in self._yielding:
                if lane.queue and lane.threads < self._max_threads(lane):
                    return lane
        return self.ordinary if self.ordinary.queue else None

    def _next_group(self, lane: Lane) -> list[_Item]:
        """Items of the same work for a free thread: its fair share of the lane's queue."""
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
            self._left(item)
            if not item.future.done() and not item.caller.is_gone():
                group.append(item)
                size += len(item.values)
                continue
            if not item.future.done():
                _fail(item, ClientGoneError())
        return group

    def _left(self, item: _Item) -> None:
        """Records that an item has left the queue."""
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
            with suppress(RuntimeError):  # the event loop has ended, so nobody waits
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
        self._dispatch()  # first, since the thread is idle until then
        if job.cancelled():
            return
        error = job.exception()
        if error is not None and len(group) > 1:
            for item in group:
                self._start([item])
            return
        outcomes = job.result() if error is None else []
        weights = [self._weigh(outcome) for outcome in outcomes] if len(group) > 1 else []
        size = sum(len(item.values) for item in group)
        if not any(weights):
            weights = [1.0] * size
        begin = 0
        for item in group:
            end = begin + len(item.values)
            own, weight = list(outcomes[begin:end]), sum(weights[begin:end])
            begin = end
            self._charge(lane, item.caller.client, seconds * weight / sum(weights))
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
        if not item.future.done():
            _fail(item, OverloadedError(1))


def _fail(item: _Item, error: BaseException) -> None:
    item.future.set_exception(error)
    item.future.exception()  # otherwise asyncio logs the error if nobody waits for it
