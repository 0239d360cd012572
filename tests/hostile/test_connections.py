"""Attacks on the service with connections instead of pictures."""

import json
import multiprocessing
import socket
import statistics
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from benchmarks.connection import Address
from service.server.protocol import MIN_CHUNK_BYTES
from tests.hostile import slow
from tests.hostile.bodies import CHUNKED, DECLARED, IN_CHUNKS, in_chunks, until_answered
from tests.hostile.process import Usage, Watched, connected, post, watched
from tests.hostile.record import record

pytestmark = [pytest.mark.hostile, pytest.mark.usefixtures("descriptors")]

DEADLINE = 10.0
"""The service's default, in seconds."""
MEBI = 1 << 20


@pytest.fixture
def service() -> Iterator[Watched]:
    """A service with long deadlines."""
    with watched(queue_ms=60_000, request_seconds=120) as service:
        yield service


def test_bodies_of_five_megabytes_are_refused(service: Watched) -> None:
    """Declared or in chunks, they get the same answer, and the service closes the connection."""
    first = until_answered(service.address, DECLARED)
    second = until_answered(service.address, IN_CHUNKS)
    for head, body, _ in (first, second):
        assert head.startswith(b"http/1.1 413 ")
        assert b"content-type: application/problem+json" in head
        assert b"connection: close" in head
        assert json.loads(body)["type"] == "/problems/upload-too-large"
    assert first[1] == second[1]
    record("bodies", declared_sent=first[2], chunked_sent=second[2])


def test_very_many_tiny_chunks_are_refused_early(
    service: Watched, normal: bytes, scaled: Callable[[int, int], int]
) -> None:
    """A megabyte in as many chunks as allowed is read; in a million chunks it is refused early.
    Neither leaves memory in use.
    """
    kinds = [(in_chunks(normal, MIN_CHUNK_BYTES), b"200"), (in_chunks(normal, 1), b"400")]

    def send() -> None:
        for request, status in kinds:
            head, _, _ = until_answered(service.address, [request])
            assert head.split()[1] == status

    count = scaled(100, 3)
    for _ in range(max(8, count // 10)):
        send()
    before = service.usage().bytes
    for _ in range(count):
        send()
    growth = settled(service, lambda now: now.bytes - before < MEBI).bytes - before
    record("bodies", one_byte_chunks=count, growth_bytes=growth)
    assert growth < MEBI


def settled(service: Watched, done: Callable[[Usage], bool]) -> Usage:
    """The usage as soon as `done` holds, or after 10 seconds."""
    for _ in range(100):
        if done(usage := service.usage()):
            break
        time.sleep(0.1)
    return usage


def measure_latencies(
    address: Address,
    picture: bytes,
    begun: "multiprocessing.synchronize.Event",
    stop: "multiprocessing.synchronize.Event",
    out: object,
) -> None:
    """Sends requests until `stop` is set. Puts the seconds that each request took, and statuses
    other than 200, into `out`.
    """
    seconds, failures = [], []
    with connected(address) as connection:
        while not stop.is_set():
            begin = time.perf_counter()
            status = post(connection, picture)[0]
            seconds.append(time.perf_counter() - begin)
            begun.set()
            if status != 200:
                failures.append((len(seconds), status))
    out.put((seconds, failures))  # type: ignore[attr-defined]


def latencies_during(service: Watched, picture: bytes, work: Callable[[], None]) -> list[float]:
    """The sorted seconds that a good client's requests take while `work` runs.

    The good client has its own process, so that it does not wait for the clients in this process.
    It connects before `work` begins: when a thousand connections come at once, a new connection
    would be one too many.
    """
    context = multiprocessing.get_context("spawn")
    begun, stop, out = context.Event(), context.Event(), context.Queue()
    client = context.Process(
        target=measure_latencies, args=(service.address, picture, begun, stop, out)
    )
    client.start()
    assert begun.wait(60)
    work()
    stop.set()
    seconds, failures = out.get(timeout=120)
    client.join()
    assert failures == []
    return sorted(seconds)


def test_slow_clients_are_cut_off(normal: bytes, scaled: Callable[[int, int], int]) -> None:
    """Clients that hold connections are cut off. Meanwhile a good client is served as before."""
    counts = {way: scaled(full, least) for way, (full, least) in slow.CLIENTS.items()}
    held: dict[str, list[float | None]] = {}
    with watched(queue_ms=60_000, request_seconds=DEADLINE) as service:
        before = service.usage()

        def attack() -> None:
            held.update(slow.hold(service.address, counts, 6 * DEADLINE))

        base = latencies_during(service, normal, lambda: time.sleep(DEADLINE))
        during = latencies_during(service, normal, attack)
        after = settled(service, lambda now: now.descriptors <= before.descriptors)
    record(
        "connections",
        deadline_seconds=DEADLINE,
        clients={way: len(seconds) for way, seconds in held.items()},
        longest_seconds={way: max(s or 1e9 for s in seconds) for way, seconds in held.items()},
        p99_ratio=during[int(0.99 * len(during))] / base[int(0.99 * len(base))],
        median_ratio=statistics.median(during) / statistics.median(base),
        good_requests=len(during),
    )
    assert [way for way, seconds in held.items() if None in seconds] == []
    assert after.descriptors <= before.descriptors
    assert statistics.median(during) < 5 * statistics.median(base)


def test_aborted_uploads_leave_nothing_behind(
    service: Watched, normal: bytes, scaled: Callable[[int, int], int]
) -> None:
    """Clients that hang up leave no descriptor, no thread and no file behind."""
    form = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    length = b"Content-Length: 900000\r\n\r\n"
    begun = [
        slow.POST + length + normal,
        form + length + part + bytes(300_000),
        CHUNKED + b"9\r\nx",
    ]

    def hang_up(number: int) -> None:
        with socket.create_connection(service.address) as connection:
            connection.sendall(begun[number % len(begun)])
            if number % 2:  # closes with a reset
                now = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)

    for number in range(20):
        hang_up(number)
    with service.connected() as connection:
        assert post(connection, normal)[0] == 200
    time.sleep(1)
    before = service.usage()
    count = scaled(1000, 100)
    for number in range(count):
        hang_up(number)

    def as_before(now: Usage) -> bool:
        left = (now.descriptors, now.threads, now.temporary_files)
        return left <= (before.descriptors, before.threads, before.temporary_files)

    after = settled(service, as_before)
    record(
        "disconnects",
        disconnects=count,
        descriptors=[before.descriptors, after.descriptors],
        threads=[before.threads, after.threads],
        temporary_files=[before.temporary_files, after.temporary_files],
    )
    assert after.descriptors <= before.descriptors
    assert after.threads <= before.threads
    assert after.temporary_files == before.temporary_files
    assert service.alive
