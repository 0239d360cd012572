"""HTTP/1.1 from the client's side, as little of it as timing needs.

Answers must have a Content-Length.
"""

import socket
from dataclasses import dataclass, field
from typing import NamedTuple

READ_BYTES = 1 << 16


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


def parse_answer(received: bytes | bytearray) -> tuple[int, bool] | None:
    """The status of an answer and whether the connection stays open; None until it is whole.

    Raises:
        ValueError: it has no Content-Length, so that its end cannot be told.
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
    """Sends one request and waits: the status and the body of its answer.

    Raises:
        OSError: there was no answer.
    """
    with socket.create_connection(address, timeout) as connection:
        connection.sendall(request)
        received = b""
        while (answer := parse_answer(received)) is None:
            if not (data := connection.recv(READ_BYTES)):
                raise ConnectionError("the connection was closed before the answer was whole")
            received += data
    return answer[0], received.partition(b"\r\n\r\n")[2]


@dataclass(slots=True, eq=False)
class Connection:
    """A keep-alive connection, and how far the request on it has come."""

    socket: socket.socket
    scheduled: float | None = None  # of the request that is under way, None where none is
    sent: float = float("inf")
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    blocked: bool = False
    received: bytearray = field(default_factory=bytearray)
