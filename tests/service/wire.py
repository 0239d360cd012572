"""What tests send over a connection, and take from it."""

import socket
import time
from unittest.mock import Mock

import uvicorn
from uvicorn.server import ServerState

from service.server.connections import Connections
from service.server.protocol import BoundedProtocol, Bounds
from tests import stripes

SECONDS = 1.0
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
READY = b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"


def picture(key: bytes = b"X-API-Key: secret\r\n") -> bytes:
    body = stripes.picture("ab")
    return HEAD + key + b"Content-Length: %d\r\n\r\n" % len(body) + body


def answers(connection: socket.socket) -> list[tuple[int, bytes]]:
    """Statuses and bodies until the server closes."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append((int(head.split()[1]), rest[:length]))
        received = rest[length:]
    return found


def connection() -> BoundedProtocol:
    """A connection without a socket, to an application that has no answers."""

    async def application(scope: object, receive: object, send: object) -> None:
        """Answers nothing."""

    config = uvicorn.Config(application, lifespan="off")
    config.load()
    protocol = BoundedProtocol(
        config, ServerState(), {}, bounds=Bounds(9, 2048), others=Connections(9)
    )
    protocol.connection_made(Mock())
    return protocol


def talk(address: tuple[str, int], *pieces: bytes, pause: float = 0.0) -> list[tuple[int, bytes]]:
    """Sends the pieces and gives all answers until the server closes, which it must."""
    with socket.create_connection(address, timeout=20) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:
                break
            time.sleep(pause)
        try:
            return answers(connection)
        except ConnectionResetError:
            return []
