"""The connections of a process: their number, and the time and memory that they take together."""

import asyncio
from collections import Counter
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING

from service.api.errors import OVERLOADED, ProblemError
from service.api.handlers import network_of
from service.settings import Settings

if TYPE_CHECKING:
    from service.server.protocol import Protocol, Request

_KEPT_SHARE = 1 / 8
"""Of the room for requests, for bodies that are at most this share of it in turn: 192 KiB of
12 MiB."""

_WAITING_SHARE = 1 / 8
"""Of the room for requests, for those that wait behind others on their connection. They may wait
for as long as their client takes for the answers to those, and cannot be given up meanwhile."""

_BARRED_SECONDS = 2.0
"""For which a client that holds most of the room gets no more of it, once another was refused. That
one is told to come again after a second, and what is being read cannot be given up meanwhile."""

_CHECKED_SHARE = 1 / 8
"""Of the room for answers: after as many bytes more, the bound is checked at once."""

_NO_ROOM = OVERLOADED, "Too many bytes are arriving at once; send this one again later."


class Connections:
    """The connections of a process: bounds their number, time and memory.

    For one too many, another is closed, of the address that has the most: the oldest of those that
    have not sent a whole request yet, or else the one whose last request is the longest ago. Where
    the requests of all of these are being answered, the new one is closed; unless its address has
    less than half as many.

    Args:
        settings: of which `request_seconds`, `max_bodies_bytes` and the like count.
        most: open at the same time.

    Attributes:
        request_bytes: of bodies, and of heads that wait behind others, until the application
            answers.
    """

    def __init__(self, settings: Settings, most: int) -> None:
        self.settings = settings
        self.request_bytes = 0
        self._waiting_bytes = 0
        self._requests: set[Request] = set()  # that have a part of `request_bytes`
        self._barred = "", 0.0  # a network, and until when
        self._most = most
        self._open: set[Protocol] = set()
        self._new: dict[Protocol, None] = {}
        self._used: dict[Protocol, None] = {}
        self._by_address: Counter[str] = Counter()  # how many of these two each has
        self._timer: asyncio.TimerHandle | None = None
        self._written_bytes = 0  # of answers, since their bound was last checked

    def opened(self, connection: "Protocol") -> None:
        """A client has connected."""
        self._open.add(connection)
        if self._timer is None:
            self._check_later(connection.loop)
        full = len(self._new) + len(self._used) >= self._most
        if full and not self._make_room(connection.address):
            connection.make_room()
        else:
            self._new[connection] = None
            self._by_address[connection.address] += 1

    def used(self, connection: "Protocol") -> None:
        """A whole request has arrived."""
        if connection in self._new or connection in self._used:
            self._new.pop(connection, None)
            self._used.pop(connection, None)  # so that it becomes the last
            self._used[connection] = None

    def take(self, connection: "Protocol", request: "Request", size: int) -> None:
        """Counts bytes that have arrived of a connection's last request, until `release`.

        Where there is no room, the largest body that is still arriving, of the client that sends
        most, is given up for a smaller one: otherwise two clients that never finish their requests
        would keep out all others. It is also given up for a larger one of a client that sends less
        than half of that.

        Two batches take seconds to be read, and cannot be given up meanwhile. So a part of the room
        is for small bodies, unless a large one is alone; and a client with more than half of what
        is held gets no more for large ones, for a while, once there was no room for another.

        Raises:
            ProblemError: there is no room.
        """
        kept = _KEPT_SHARE * self.settings.max_bodies_bytes
        if request.bytes + size <= _KEPT_SHARE * kept:
            kept = 0
        elif self._is_barred(connection):
            raise ProblemError(*_NO_ROOM)
        elif request.bytes == self.request_bytes:
            kept = 0
        while size > self._room_for(connection, kept):
            self._given_up_for(connection, size).refuse(*_NO_ROOM)
        self._requests.add(request)
        self.request_bytes += size
        request.bytes += size
        if connection.pipeline:
            self._waiting_bytes += size
            request.waiting_bytes += size

    def release(self, request: "Request", kept: int = 0) -> None:
        """A request is answered, has ended, or is given up but for so many bytes of its head."""
        self.request_bytes -= request.bytes - kept
        self._waiting_bytes -= request.waiting_bytes - kept
        request.bytes = request.waiting_bytes = kept
        if not kept:
            self._requests.discard(request)

    def closed(self, connection: "Protocol") -> None:
        """The connection is lost."""
        self._open.discard(connection)
        self._forget(connection)

    def written(self, size: int, loop: asyncio.AbstractEventLoop) -> None:
        """A part of an answer is being written."""
        self._written_bytes += size
        if self._written_bytes > _CHECKED_SHARE * self.settings.max_bodies_bytes:
            self._written_bytes = 0
            loop.call_soon(self._bound_answers)  # when the system has taken what it has room for

    def _make_room(self, address: str) -> bool:
        """Closes a connection for one of this address; tells whether it does."""
        heaviest, count = max(self._by_address.items(), key=lambda item: item[1])
        theirs = (one for one in chain(self._new, self._used) if one.address == heaviest)
        closed = next((one for one in theirs if one.make_room()), None)
        if closed is None and 2 * self._by_address[address] < count:
            closed = next(one for one in chain(self._new, self._used) if one.address == heaviest)
            closed.abort()
        return closed is not None and self._forget(closed)

    def _forget(self, connection: "Protocol") -> bool:
        """Takes a connection out of those that count; tells whether it was one of them."""
        if connection not in self._new and connection not in self._used:
            return False
        self._new.pop(connection, None)
        self._used.pop(connection, None)
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]
        return True

    def _room_for(self, connection: "Protocol", kept: float) -> float:
        """The bytes that are free for a request, apart from so many for others."""
        most = self.settings.max_bodies_bytes
        free = most - kept - self.request_bytes
        if connection.pipeline:
            free = min(free, _WAITING_SHARE * most - self._waiting_bytes)
        return free

    def _is_barred(self, connection: "Protocol") -> bool:
        network, until = self._barred
        return connection.loop.time() < until and connection.network == network

    def _bar(self, connection: "Protocol") -> None:
        """Bars the client with more than half of what is held, unless this one is that."""
        held = Counter[str]()
        for request in self._requests:
            held[network_of(request.cycle.scope["client"])] += request.bytes
        for network, size in held.most_common(1):
            if 2 * size > self.request_bytes and network != connection.network:
                self._barred = network, connection.loop.time() + _BARRED_SECONDS

    def _given_up_for(self, connection: "Protocol", size: int) -> "Protocol":
        """The connection whose body is given up for `size` bytes more on this one.

        Raises:
            ProblemError: there is none.
        """
        arriving = [] if connection.pipeline else [one for one in self._open if one.arriving_bytes]
        by_network = Counter({connection.network: size})
        for one in arriving:
            by_network[one.network] += one.arriving_bytes
        heaviest = max(by_network, key=by_network.__getitem__)
        theirs = (one for one in arriving if one.network == heaviest)
        largest = max(theirs, key=attrgetter("arriving_bytes"), default=connection)
        is_larger = largest.arriving_bytes > connection.arriving_bytes + size
        if not is_larger and by_network[heaviest] <= 2 * by_network[connection.network]:
            if not connection.pipeline:
                self._bar(connection)
            raise ProblemError(*_NO_ROOM)
        return largest

    def _check_later(self, loop: asyncio.AbstractEventLoop) -> None:
        seconds = min(1.0, self.settings.request_seconds / 8, self.settings.keep_alive_seconds / 8)
        self._timer = loop.call_later(seconds, self._check, loop)

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        # One timer for all: several for each connection would be set and cancelled with a request.
        self._timer = None
        if self._open:
            self._check_later(loop)
        now = loop.time()
        for connection in [*self._open]:
            connection.check(now)
        self._bound_answers()

    def _bound_answers(self) -> None:
        """Closes connections while clients leave too many bytes of answers untaken.

        The largest of the client that leaves most: one that takes them at the least rate has
        minutes for the largest.
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
