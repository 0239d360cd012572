"""Requests that tests send over a connection, and functions that read the answers."""

import asyncio
import socket
import time
from unittest.mock import Mock

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from service.api.routes import DRAINING
from service.server.connections import Connections
from service.server.protocol import Protocol
from service.settings import Settings
from tests import stripes

SECONDS = 1.0
"""`OCR_REQUEST_SECONDS` of the service of the fixture `address`."""

KEY = b"X-API-Key: secret\r\n"
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
READY = b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = READY[:-2] + b"Connection: close\r\n\r\n"
CHUNKED = HEAD + KEY + b"Transfer-Encoding: chunked\r\n\r\n"


def picture(fields: bytes = KEY) -> bytes:
    """A request with a picture that reads "ab"."""
    body = stripes.picture("ab")
    return HEAD + fields + b"Content-Length: %d\r\n\r\n" % len(body) + body


def received(connection: socket.socket) -> bytes:
    """All bytes until the server closes or resets the connection."""
    data = b""
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def parsed(data: bytes) -> list[tuple[int, bytes]]:
    """Statuses and bodies of answers."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append((int(head.split()[1]), rest[:length]))
        data = rest[length:]
    return found


def answers(connection: socket.socket) -> list[tuple[int, bytes]]:
    """Statuses and bodies of all answers until the server closes the connection."""
    return parsed(received(connection))


def talk(address: tuple[str, int], *pieces: bytes, pause: float = 0.0) -> list[tuple[int, bytes]]:
    """Sends the pieces, and gives all answers until the server closes the connection, as it must.

    Args:
        pause: seconds to wait after each piece.
    """
    with socket.create_connection(address, timeout=30) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:
                break
            time.sleep(pause)
        return answers(connection)


def statuses(address: tuple[str, int], *pieces: bytes, pause: float = 0.0) -> list[int]:
    """As `talk`, but gives only the statuses."""
    return [status for status, _ in talk(address, *pieces, pause=pause)]


def unconnected(application: ASGIApp, connections: Connections | None = None) -> Protocol:
    """A connection without a socket."""
    config = uvicorn.Config(application, lifespan="off", log_config=None)
    config.load()
    connections = connections or Connections(Settings(max_header_bytes=2048), 99)
    return Protocol(config, ServerState(), {DRAINING: asyncio.Event()}, connections=connections)


def transport(address: str = "10.0.0.1") -> Mock:
    """A transport without a socket, whose client takes everything at once."""
    made = Mock()
    made.is_closing.return_value = False
    made.get_write_buffer_size.return_value = 0
    where = made.get_extra_info.return_value
    where.getpeername.return_value = (address, 1)
    where.fileno.return_value = -1
    return made
