"""Sends mixed load at a share of the service's capacity, and reads its usage meanwhile."""

import http.client
import itertools
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event

from tests.hostile import slow
from tests.hostile.mutation import Mutator
from tests.hostile.pictures import of_sides
from tests.hostile.process import Usage, Watched, post
from tests.hostile.trend import Trend, trend

LOAD = 0.7
_CLIENTS = 2


@dataclass
class Soaked:
    """The measurements: for each time in seconds, the requests so far and the usage."""

    seconds: list[float] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    usage: list[Usage] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def bytes_per_hour(self) -> Trend:
        """The trend of the resident memory over time."""
        return trend([t / 3600 for t in self.seconds], [usage.bytes for usage in self.usage])

    def bytes_per_request(self) -> Trend:
        """The trend of the resident memory over requests."""
        return trend(self.requests, [usage.bytes for usage in self.usage])


def mixed(normal: bytes, seed: int) -> Iterator[bytes | None]:
    """Two good pictures for each bad one; None: hang up during an upload."""
    mutants = Mutator(seed)
    bad = itertools.cycle([b"no picture", of_sides(10_000, 5_000), bytes(1_100_000), None])
    for number in itertools.count():
        yield from (normal, normal, mutants.mutant(number), normal, normal, next(bad))


def plain(normal: bytes, _: int) -> Iterator[bytes | None]:
    """A good picture and a file that is no picture, in turn. Memory is then level after seconds."""
    return itertools.cycle((normal, b"no picture"))


def _hang_up(service: Watched) -> None:
    with socket.create_connection(service.address) as connection:
        connection.sendall(slow.POST + b"Content-Length: 1000\r\n\r\nabc")


def _status(service: Watched, connection: http.client.HTTPConnection, picture: bytes) -> int:
    try:
        return post(connection, picture)[0]
    except ConnectionError:
        if len(picture) < 1 << 20:
            raise
        connection.close()  # sent on after the refusal, so the answer was lost
        return 413


def soak(
    service: Watched,
    normal: bytes,
    seconds: float,
    every: float,
    load: float = LOAD,
    pictures: Callable[[bytes, int], Iterator[bytes | None]] = mixed,
) -> Soaked:
    """Sends for `seconds`, and reads the usage every `every` seconds.

    Args:
        load: the share of the time in which each client waits for answers; otherwise it pauses.
        pictures: makes what a client sends, from a good picture and the client's seed.
    """
    seen = Soaked()
    end = Event()

    def send(seed: int) -> None:
        with service.connected() as connection:
            for picture in pictures(normal, seed):
                if end.is_set():
                    return
                begin = time.perf_counter()
                if picture is None:
                    _hang_up(service)
                else:
                    seen.statuses[_status(service, connection, picture)] += 1
                end.wait((time.perf_counter() - begin) * (1 / load - 1))

    with ThreadPoolExecutor(_CLIENTS) as clients:
        sending = [clients.submit(send, seed) for seed in range(_CLIENTS)]
        begin = time.monotonic()
        try:
            while (now := time.monotonic() - begin) < seconds and not any(
                client.done() for client in sending
            ):
                seen.seconds.append(now)
                seen.requests.append(seen.statuses.total())
                seen.usage.append(service.usage())
                time.sleep(every)
        finally:
            end.set()
        for client in sending:
            client.result()
    return seen
