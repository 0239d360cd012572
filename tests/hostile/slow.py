"""Clients that hold connections, each in its own way, until the service closes them."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping

POST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
GET = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n"

Way = Callable[[socket.socket], Awaitable[None]]


async def _trickle(connection: socket.socket) -> None:
    while True:
        await asyncio.sleep(1)
        await asyncio.get_running_loop().sock_sendall(connection, b"x")


async def _until_closed(connection: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(connection, 1 << 16):
        pass


async def _trickle_until_closed(connection: socket.socket, begin: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(connection, begin)
    trickling = asyncio.create_task(_trickle(connection))
    try:
        await _until_closed(connection)
    finally:
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)


async def silent(connection: socket.socket) -> None:
    """Sends nothing."""
    await _until_closed(connection)


async def slow_headers(connection: socket.socket) -> None:
    """Sends one byte of a header per second."""
    await _trickle_until_closed(connection, GET + b"A: ")


async def slow_body(connection: socket.socket) -> None:
    """Sends one byte of a body per second."""
    await _trickle_until_closed(connection, POST + b"Content-Length: 1000\r\n\r\n")


async def large_headers(connection: socket.socket) -> None:
    """Sends 20 MB of headers."""
    send = asyncio.get_running_loop().sock_sendall
    await send(connection, GET)
    for _ in range(320):
        await send(connection, b"A: bcdef\r\n" * 6250)
    await _until_closed(connection)


async def flood(connection: socket.socket) -> None:
    """Sends requests without end, and does not wait for answers."""
    while True:
        await asyncio.get_running_loop().sock_sendall(connection, GET + b"\r\n")


async def never_read(connection: socket.socket) -> None:
    """Sends up to 50 requests per second, and does not read the answers."""
    while True:
        await asyncio.get_running_loop().sock_sendall(connection, GET + b"\r\n")
        await asyncio.sleep(0.02)


CLIENTS: dict[Way, tuple[int, int]] = {
    silent: (500, 20),
    slow_headers: (500, 20),
    slow_body: (200, 20),
    large_headers: (20, 2),
    flood: (50, 5),
    never_read: (20, 2),
}
"""How many clients of each way connect at once: the full count, and the least count of a share."""


async def _held(address: tuple[str, int], way: Way, patience: float) -> float | None:
    """The seconds until the service closed the connection; None if it did not."""
    begin = time.monotonic()
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            async with asyncio.timeout(patience):
                await asyncio.get_running_loop().sock_connect(connection, address)
                await way(connection)
        except TimeoutError:
            return None
        except OSError:
            pass  # a reset, which closes the connection, too
    return time.monotonic() - begin


def hold(
    address: tuple[str, int], counts: Mapping[Way, int], patience: float
) -> dict[str, list[float | None]]:
    """Lets `counts` clients of each way hold connections, all at the same time.

    Returns:
        For each way, the seconds until the service closed each connection; None for a connection
        that was still open after `patience` seconds.
    """

    async def everyone() -> list[list[float | None]]:
        ways = [
            asyncio.gather(*(_held(address, way, patience) for _ in range(count)))
            for way, count in counts.items()
        ]
        return [list(await way) for way in ways]

    held = asyncio.run(everyone())
    return {way.__name__: seconds for way, seconds in zip(counts, held, strict=True)}
