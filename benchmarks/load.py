"""A load generator: one thread, non-blocking keep-alive connections, requests made beforehand.

It makes two kinds of load (Schroeder et al. 2006, "Open Versus Closed: A Cautionary Tale"). In a
closed loop, each connection sends its next request when it has its answer, so a slow server gets
fewer requests. In an open loop, requests arrive at a constant rate whatever the server does, and
the latency counts from the scheduled arrival. So the latency includes the wait for a free
connection or for a late generator (no "coordinated omission").

The generator does not interpret the requests.
"""

import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from itertools import cycle
from types import TracebackType
from typing import ClassVar, NamedTuple, Self

from benchmarks.connection import READ_BYTES, Address, Connection, parse_answer

UNANSWERED = 0
"""The status of a request whose answer is missing: reset, refused, cut short or given up."""


class Outcome(NamedTuple):
    """The outcome of a request; times are in seconds on the clock of `time.perf_counter`."""

    scheduled: float
    sent: float  # when its last byte was sent; infinite if it never was
    ended: float
    status: int

    @property
    def latency(self) -> float:
        """Seconds from the scheduled arrival to the complete answer."""
        return self.ended - self.scheduled


class LoadGenerator:
    """Sends requests to one server; a context manager that closes its connections at the end.

    Args:
        requests: complete HTTP/1.1 requests as bytes, sent in turn.
        connections: the number of connections.
    """

    spins: ClassVar[bool] = False
    """Whether the generator never sleeps; for a process that has a processor to itself. Waking the
    generator for every answer costs the server CPU time, which remote clients would not cost it."""

    def __init__(self, address: Address, requests: Sequence[bytes], connections: int) -> None:
        self._address = address
        self._requests = cycle(requests)
        self._size = connections
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._idle: deque[Connection] = deque()
        self._outcomes: list[Outcome] = []
        for _ in range(connections):
            self._idle.append(self._connect())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._epoll.close()

    def closed_loop(self, seconds: float, patience: float = 10.0) -> list[Outcome]:
        """Sends a request on every connection as soon as it is free, for `seconds`.

        Args:
            patience: seconds to wait for the last answers.
        """
        self._outcomes = []
        start = time.perf_counter()
        while (now := time.perf_counter()) < start + seconds:
            if not self._send(now):
                self._wait(start + seconds - now)
        self._drain(start + seconds + patience)
        return self._outcomes

    def open_loop(self, rate: float, seconds: float, patience: float = 10.0) -> list[Outcome]:
        """Schedules `rate` requests a second at equal intervals, for `seconds`.

        Args:
            patience: seconds to wait for the last answers.

        Returns:
            An outcome for every scheduled request, also for requests that were never sent.
        """
        self._outcomes = []
        total, issued, start = round(rate * seconds), 0, time.perf_counter()
        end = start + seconds + patience
        while issued < total and (now := time.perf_counter()) < end:
            due = start + issued / rate
            if due <= now and self._send(due):
                issued += 1
                self._wait(0)  # handles answers even while sending is late
            else:
                # If no connection is free, waits for the next answer.
                self._wait(due - now if due > now else end - now)
        self._drain(end)
        never = float("inf")
        for number in range(issued, total):
            due = start + number / rate
            self._outcomes.append(Outcome(due, never, time.perf_counter(), UNANSWERED))
        return self._outcomes

    def _drain(self, end: float) -> None:
        while any(c.scheduled is not None for c in self._connections.values()):
            if (left := end - time.perf_counter()) <= 0:
                break
            self._wait(left)
        for connection in list(self._connections.values()):
            if connection.scheduled is not None:
                self._lose(connection)

    def _connect(self) -> Connection:
        connection = Connection(socket.socket())
        connection.socket.setblocking(False)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket.connect_ex(self._address)
        self._connections[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket, select.EPOLLIN)
        return connection

    def _send(self, scheduled: float) -> bool:
        """Sends the next request; False if no connection is free."""
        if self._idle:
            # The connection that was idle longest, so that all processes of a server get a share.
            connection = self._idle.popleft()
        elif len(self._connections) < self._size:
            connection = self._connect()
        else:
            return False
        connection.scheduled = scheduled
        connection.sent = float("inf")
        connection.unsent = memoryview(next(self._requests))
        self._write(connection)
        return True

    def _write(self, connection: Connection) -> None:
        try:
            written = connection.socket.send(connection.unsent)
        except BlockingIOError:
            written = 0
        except OSError:
            self._lose(connection)
            return
        connection.unsent = connection.unsent[written:]
        blocked = len(connection.unsent) > 0
        if not blocked:
            connection.sent = time.perf_counter()
        if blocked != connection.blocked:
            connection.blocked = blocked
            events = select.EPOLLIN | (select.EPOLLOUT if blocked else 0)
            self._epoll.modify(connection.socket, events)

    def _wait(self, seconds: float) -> None:
        """Waits for events of the sockets, at most `seconds`, and handles them."""
        # `select` can wait for microseconds; epoll would round up to a millisecond.
        patience = 0.0 if self.spins else max(0.0, seconds)
        if not select.select([self._epoll], [], [], patience)[0]:
            return
        for descriptor, events in self._epoll.poll(0):
            connection = self._connections.get(descriptor)
            if connection is None:
                continue
            if events & select.EPOLLOUT:
                self._write(connection)
            if events & ~select.EPOLLOUT and descriptor in self._connections:
                self._read(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(connection)
            return
        connection.received += data
        answer = parse_answer(connection.received)
        if answer is None:
            return
        status, stays = answer
        self._record(connection, status)
        connection.received.clear()
        # After an answer to an incomplete request, the connection cannot be used again.
        if stays and not connection.unsent:
            self._idle.append(connection)
        else:
            self._drop(connection)

    def _record(self, connection: Connection, status: int) -> None:
        if connection.scheduled is not None:
            ended = time.perf_counter()
            self._outcomes.append(Outcome(connection.scheduled, connection.sent, ended, status))
            connection.scheduled = None

    def _lose(self, connection: Connection) -> None:
        if connection.scheduled is None:
            self._idle.remove(connection)
        self._record(connection, UNANSWERED)
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        del self._connections[connection.socket.fileno()]
        connection.socket.close()
