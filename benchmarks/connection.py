"""A minimal HTTP/1.1 client for timing.

Answers must have a Content-Length.
"""

import socket
from dataclasses import dataclass, field
from typing import NamedTuple

READ_BYTES = 1 << 16


class Address(NamedTuple):
    """The address that a server listens on."""

    host: str
    port: int


def parse_answer(received: bytes | bytearray) -> tuple[int, bool] | None:
    """The status of an answer, and whether the connection stays open; None if it is incomplete.

    Raises:
        ValueError: the answer has no Content-Length, so its end is unknown.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(received[:end]).lower()
    _, found, length = head.partition(b"\r\ncontent-length:")
    if not found:
        raise ValueError(f"an answer without Content-Length: {head!r}")
    if len(received) < end + 4 + int(length.partition(b"\r\n")[0]):
        return None
    return int(head[9:12]), b"\r\nconnection: close" not in head


def exchange(address: Address, request: bytes, timeout: float = 60.0) -> tuple[int, bytes]:
    """Sends a request, and gives the status and the body of its answer.

    Raises:
        OSError: there was no answer.
    """
    with socket.create_connection(address, timeout) as connection:
        connection.sendall(request)
        received = b""
        while (answer := parse_answer(received)) is None:
            if not (data := connection.recv(READ_BYTES)):
                raise ConnectionError("the connection was closed before the answer was complete")
            received += data
    return answer[0], received.partition(b"\r\n\r\n")[2]


@dataclass(slots=True, eq=False)
class Connection:
    """A keep-alive connection, and the progress of the request on it."""

    socket: socket.socket
    scheduled: float | None = None  # when the current request was to be sent; None: no request
    sent: float = float("inf")  # when its last byte was sent
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    blocked: bool = False
    received: bytearray = field(default_factory=bytearray)
