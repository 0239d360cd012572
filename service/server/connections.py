"""Limits the connections of a process: their number, their time and their memory."""

import asyncio
from collections import Counter, defaultdict
from itertools import chain
from typing import TYPE_CHECKING

from service.api.errors import OVERLOADED, ProblemError
from service.api.handlers import network_of
from service.api.routes import PREDICT_PATH
from service.settings import Settings

if TYPE_CHECKING:
    from service.server.protocol import Protocol, Request

_RESERVED_SHARE = 1 / 8
"""Share of the memory for requests that is reserved for small bodies. A body is small if it has at
most this share of that reserve: 192 KiB of 12 MiB by default. As much again is reserved for small
bodies and single pictures."""

_WAITING_SHARE = 1 / 8
"""Share of the memory for requests that pipelined requests may take. A pipelined request waits
until its client has taken the answers before it, and cannot be refused meanwhile."""

_BARRED_SECONDS = 2.0
"""How long a client that holds more than its share of the memory gets no more of it, once another
client was refused. The refused client is told to come again after a second, and memory of pictures
that are being read cannot be taken back in that time."""

_CHECKED_SHARE = 1 / 8
"""Share of the memory for answers. The limit is checked at once whenever answers of this size have
been written."""

_NO_ROOM = OVERLOADED, "Too many bytes are arriving at once; send this one again later."


class Connections:
    """Limits the number, time and memory of a process's connections.

    A new connection beyond the limit closes a connection of the address that has the most: the
    oldest without a complete request, or else the one whose last request is the longest ago. If all
    connections of that address are being answered, the new connection is closed. If its address has
    less than half as many, one that is being answered is closed instead.

    Args:
        settings: gives `request_seconds`, `max_bodies_bytes` and the other limits.
        max_connections: connections that may be open at the same time.

    Attributes:
        request_bytes: memory of bodies, and of the heads of pipelined requests, until the
            application answers.
    """

    def __init__(self, settings: Settings, max_connections: int) -> None:
        self.settings = settings
        self.request_bytes = 0
        self._waiting_bytes = 0
        self._requests: set[Request] = set()  # requests that hold a part of `request_bytes`
        self._barred: dict[str, float] = {}  # by network, the time until which it is barred
        self._max_connections = max_connections
        self._open: set[Protocol] = set()
        self._new: dict[Protocol, None] = {}  # without a complete request, the oldest first
        self._used: dict[Protocol, None] = {}  # in the order of their last requests
        self._by_address: Counter[str] = Counter()  # connections in `_new` and `_used`
        self._timer: asyncio.TimerHandle | None = None
        self._written_bytes = 0  # bytes of answers since the limit of answers was last checked

    def opened(self, connection: "Protocol") -> None:
        """Counts a connection that a client has opened."""
        self._open.add(connection)
        if self._timer is None:
            self._check_later(connection.loop)
        full = len(self._new) + len(self._used) >= self._max_connections
        if full and not self._make_room(connection.address):
            connection.make_room()
        else:
            self._new[connection] = None
            self._by_address[connection.address] += 1

    def used(self, connection: "Protocol") -> None:
        """Records that a complete request has arrived."""
        if connection in self._new or connection in self._used:
            self._new.pop(connection, None)
            self._used.pop(connection, None)  # moves it to the end
            self._used[connection] = None

    def take(self, connection: "Protocol", request: "Request", size: int) -> None:
        """Counts bytes of a connection's last request as they arrive, until `release`.

        If there is no room, the largest body that is still arriving is refused, of the client that
        sends most. It makes room for a smaller body: otherwise two clients that never finish their
        requests would keep out all others. It also makes room for a larger body, of a client that
        sends less than half as much. A body counts more the longer it takes to arrive, so that a
        few clients that send slowly do not keep out a large body that arrives at once.

        Batches take seconds to be read, and cannot be refused meanwhile. So a part of the memory is
        reserved for small bodies and single pictures, unless a body is the only one. And clients
        that hold more than an equal share of the memory get no more for large bodies, for a while,
        once another client was refused.

        Raises:
            ProblemError: there is no room.
        """
        reserve = _RESERVED_SHARE * self.settings.max_bodies_bytes
        if request.bytes + size <= _RESERVED_SHARE * reserve:
            reserved = 0.0
        elif self._is_barred(connection):
            raise ProblemError(*_NO_ROOM)
        elif request.bytes == self.request_bytes:
            reserved = 0.0
        else:
            is_single = request.cycle.scope["path"] == PREDICT_PATH
            reserved = reserve if is_single else 2 * reserve
        while size > self._room_for(connection, reserved):
            self._connection_to_refuse(connection, size).refuse(*_NO_ROOM)
        self._requests.add(request)
        self.request_bytes += size
        request.bytes += size
        if connection.pipeline:
            self._waiting_bytes += size
            request.waiting_bytes += size

    def release(self, request: "Request", kept: int = 0) -> None:
        """Frees the memory of a request that is answered, has ended or is refused.

        Args:
            kept: bytes of its head that stay counted, since a refused request still waits.
        """
        self.request_bytes -= request.bytes - kept
        self._waiting_bytes -= request.waiting_bytes - kept
        request.bytes = request.waiting_bytes = kept
        if not kept:
            self._requests.discard(request)

    def closed(self, connection: "Protocol") -> None:
        """Records that a connection is closed."""
        self._open.discard(connection)
        self._forget(connection)

    def written(self, size: int, loop: asyncio.AbstractEventLoop) -> None:
        """Counts a part of an answer that is being written."""
        self._written_bytes += size
        if self._written_bytes > _CHECKED_SHARE * self.settings.max_bodies_bytes:
            self._written_bytes = 0
            loop.call_soon(self._bound_answers)  # after the system has taken what it can

    def _make_room(self, address: str) -> bool:
        """Closes a connection to make room for one of this address; false if it closes none."""
        heaviest, count = max(self._by_address.items(), key=lambda item: item[1])
        theirs = (one for one in chain(self._new, self._used) if one.address == heaviest)
        closed = next((one for one in theirs if one.make_room()), None)
        if closed is None and 2 * self._by_address[address] < count:
            closed = next(one for one in chain(self._new, self._used) if one.address == heaviest)
            closed.abort()
        return closed is not None and self._forget(closed)

    def _forget(self, connection: "Protocol") -> bool:
        """Stops counting a connection; false if it was not counted."""
        if connection not in self._new and connection not in self._used:
            return False
        self._new.pop(connection, None)
        self._used.pop(connection, None)
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]
        return True

    def _room_for(self, connection: "Protocol", reserved: float) -> float:
        """Bytes that are free for a connection's request, if so many bytes are reserved."""
        most = self.settings.max_bodies_bytes
        free = most - reserved - self.request_bytes
        if connection.pipeline:
            free = min(free, _WAITING_SHARE * most - self._waiting_bytes)
        return free

    def _is_barred(self, connection: "Protocol") -> bool:
        return connection.loop.time() < self._barred.get(connection.network, 0.0)

    def _bar_others(self, connection: "Protocol") -> None:
        """Bars the other clients that hold more than an equal share of the memory for requests."""
        held = Counter({connection.network: 0})
        for request in self._requests:
            held[network_of(request.cycle.scope["client"])] += request.bytes
        now = connection.loop.time()
        self._barred = {network: until for network, until in self._barred.items() if now < until}
        for network, size in held.items():
            if len(held) * size > self.request_bytes and network != connection.network:
                self._barred[network] = now + _BARRED_SECONDS

    def _connection_to_refuse(self, connection: "Protocol", size: int) -> "Protocol":
        """The connection whose body is refused to make room for `size` bytes of this one.

        Raises:
            ProblemError: no connection may be refused for it.
        """
        now = connection.loop.time()
        arriving = [] if connection.pipeline else [one for one in self._open if one.arriving_bytes]
        weights = {one: _weight(one, now) for one in arriving}
        weights[connection] = _weight(connection, now, size)
        by_network: dict[str, float] = defaultdict(float)
        for one, weight in weights.items():
            by_network[one.network] += weight
        heaviest = max(by_network, key=by_network.__getitem__)
        theirs = (one for one in arriving if one.network == heaviest)
        largest = max(theirs, key=weights.__getitem__, default=connection)
        is_larger = largest.arriving_bytes > connection.arriving_bytes + size
        if not is_larger and by_network[heaviest] <= 2 * by_network[connection.network]:
            if not connection.pipeline:
                self._bar_others(connection)
            raise ProblemError(*_NO_ROOM)
        return largest

    def _check_later(self, loop: asyncio.AbstractEventLoop) -> None:
        seconds = min(1.0, self.settings.request_seconds / 8, self.settings.keep_alive_seconds / 8)
        self._timer = loop.call_later(seconds, self._check, loop)

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        # One timer for all connections: their own would be set and cancelled with every request.
        self._timer = None
        if self._open:
            self._check_later(loop)
        now = loop.time()
        for connection in [*self._open]:
            connection.check(now)
        self._bound_answers()

    def _bound_answers(self) -> None:
        """Closes connections while clients leave too many bytes of answers untaken.

        It closes the connection with most untaken bytes, of the client with most of them. A client
        that reads at the lowest allowed rate may take minutes for its largest answer.
        """
        untaken = {one: size for one in self._open if (size := one.untaken_bytes)}
        by_network = Counter[str]()
        for one, size in untaken.items():
            by_network[one.network] += size
        while by_network.total() > self.settings.max_bodies_bytes:
            ((heaviest, _),) = by_network.most_common(1)
            theirs = (one for one in untaken if one.network == heaviest)
            largest = max(theirs, key=untaken.__getitem__)
            largest.abort()
            by_network[heaviest] -= untaken.pop(largest)


def _weight(connection: "Protocol", now: float, size: int = 0) -> float:
    """How much the arriving body of a connection counts, with `size` more bytes: its bytes times
    the seconds since its head arrived, and one second.
    """
    return (connection.arriving_bytes + size) * (1 + now - connection.arriving_since)
