"""Bounds how many connections a process holds, and so the memory that they take."""

from itertools import chain
from typing import Protocol


class Connection(Protocol):
    """What is bounded."""

    def give_way(self) -> bool:
        """Closes, unless a request that has arrived is being answered; tells whether it did."""


class Connections:
    """At most so many at once.

    For one too many, another gives way: the oldest of those that have not sent a whole request
    yet, or else the one whose last request is the longest ago. So whoever holds connections
    without using them takes them from himself.

    Args:
        most: connections that there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._new: dict[Connection, None] = {}
        self._used: dict[Connection, None] = {}

    def add(self, connection: Connection) -> None:
        """There is another one."""
        self._new[connection] = None
        if len(self._new) + len(self._used) <= self._most:
            return
        for one in chain(self._new, self._used):
            if one.give_way():
                self.remove(one)
                return

    def used(self, connection: Connection) -> None:
        """A whole request has arrived on it."""
        self.remove(connection)
        self._used[connection] = None

    def remove(self, connection: Connection) -> None:
        """It is lost, or about to be."""
        self._new.pop(connection, None)
        self._used.pop(connection, None)
