"""Runs the attacks of the other modules on one service, all at the same time.

Each attack has its own process, so that no attack waits for the GIL of another. A picture that the
service is too busy for is sent again, so that every picture is checked.
"""

import http.client
import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field

from benchmarks.connection import Address
from service.ocr.preprocessing import DEFAULT_MAX_PIXELS, MAX_SIDE
from service.server.protocol import MIN_CHUNK_BYTES
from tests.hostile import slow
from tests.hostile.bodies import DECLARED, IN_CHUNKS, in_chunks, until_answered
from tests.hostile.mutation import Mutator
from tests.hostile.pictures import allowed, corpus, of_sides, refused
from tests.hostile.process import connected, post

_SEED = 6
_AT_ONCE = 20
_PATIENCE_SECONDS = 120.0
_AGAIN_SECONDS = 0.05

BUSY = 503
LATE = 408
"""The status of a request that misses the deadline, as may happen here: everything is slow."""

Expected = Callable[[int], bool]


@dataclass
class Seen:
    """The answers to an attack."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __iadd__(self, other: "Seen") -> "Seen":
        self.statuses += other.statuses
        self.wrong += other.wrong
        return self

    def sent(self, name: str, send: Callable[[], tuple[int, bytes]], expected: Expected) -> None:
        """Sends again while the service is too busy; checks the last answer."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                status, body = send()
            except (ConnectionError, http.client.HTTPException) as error:
                self.wrong.append(f"{name}: {error!r} at {time.strftime('%X')}")
                return
            self.statuses[status] += 1
            if status != BUSY or time.monotonic() > end:
                break
            if json.loads(body)["type"] != "/problems/overloaded":
                self.wrong.append(f"{name}: {body!r}")
            time.sleep(_AGAIN_SECONDS)
        if not expected(status):
            self.wrong.append(f"{name}: {status} {body[:300]!r}")


def _each(address: Address, members: Iterable[tuple[str, bytes, Expected]]) -> Seen:
    """Sends one picture after the other, on one connection."""
    seen = Seen()
    with connected(address) as connection:
        for name, picture, expected in members:
            seen.sent(name, lambda p=picture: post(connection, p), expected)  # type: ignore[misc]
    return seen


def _at_once(send: Callable[[int], Seen], clients: int) -> Seen:
    seen = Seen()
    with ThreadPoolExecutor(clients) as threads:
        for one in threads.map(send, range(clients)):
            seen += one
    return seen


def bodies(address: Address, picture: bytes, rounds: int) -> Seen:
    """Bodies of 5 MB, declared and in chunks, and bodies in tiny chunks, from many clients."""
    kinds = (
        ("5 MB declared", DECLARED, {413}),
        ("5 MB in chunks", IN_CHUNKS, {413, LATE}),
        ("tiny chunks", [in_chunks(picture, MIN_CHUNK_BYTES)], {200, LATE}),
        ("one-byte chunks", [in_chunks(picture, 1)], {400}),
    )

    def send(number: int) -> Seen:
        seen = Seen()
        for turn in range(rounds):
            name, pieces, expected = kinds[(number + turn) % len(kinds)]

            def ask(pieces: list[bytes] = pieces) -> tuple[int, bytes]:
                head, body, _ = until_answered(address, pieces)
                return int(head.split()[1]), body

            seen.sent(name, ask, expected.__contains__)
        return seen

    return _at_once(send, _AT_ONCE)


def pictures(address: Address, rounds: int) -> Seen:
    """Costly and allowed pictures in turn, and 50 megapixels from many clients at once."""
    members = [
        (name, picture, status.__eq__)
        for name, picture, status in refused(DEFAULT_MAX_PIXELS, MAX_SIDE)
    ] + [(name, picture, (200).__eq__) for name, picture in allowed(DEFAULT_MAX_PIXELS, MAX_SIDE)]
    seen = _each(address, members * rounds)
    bombs = [("50 megapixels", of_sides(10_000, 5_000), (413).__eq__)] * rounds
    seen += _at_once(lambda _: _each(address, bombs), _AT_ONCE)
    seen += _at_once(lambda _: _each(address, members * max(1, rounds // 4)), _AT_ONCE)
    return seen


def whole_corpus(address: Address, rounds: int) -> Seen:
    """Every kind of PNG, broken ones, and other formats."""
    members = [(name, picture, expected.__contains__) for _, name, picture, expected in corpus()]
    return _each(address, members * rounds)


def mutants(address: Address, count: int) -> Seen:
    """PNGs that are nearly valid."""
    mutator = Mutator(_SEED)
    return _each(
        address,
        (
            (f"mutant {number}", mutator.mutant(number), lambda s: s == 200 or 400 <= s < 500)
            for number in range(count)
        ),
    )


def connections(address: Address, clients: Mapping[slow.Way, int], waves: int) -> Seen:
    """Clients that hold connections, wave after wave."""
    seen = Seen()
    for _ in range(waves):
        held = slow.hold(address, clients, _PATIENCE_SECONDS)
        seen.wrong += [f"{way}: not closed" for way, times in held.items() if None in times]
    return seen


def together(address: Address, attacks: Mapping[str, Callable[[Address], Seen]]) -> dict[str, Seen]:
    """Runs the attacks; gives the answers to each."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(attacks), context) as processes:
        running = {name: processes.submit(attack, address) for name, attack in attacks.items()}
        return {name: future.result() for name, future in running.items()}
