"""Request bodies that are too large or come in very many chunks, and their answers."""

import select
import socket
from collections.abc import Iterable

from benchmarks.connection import Address, parse_answer
from tests.hostile.slow import POST

CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

DECLARED = [POST + b"Content-Length: 5000000\r\n\r\n"]
"""A body of 5 MB according to the headers."""

IN_CHUNKS = [CHUNKED, *[b"10000\r\n" + bytes(65536) + b"\r\n"] * 77]
"""A body of 5 MB in chunks, without a declared length."""


def in_chunks(picture: bytes, size: int) -> bytes:
    """A request of 1 MB in chunks of `size` bytes; its body begins with the picture."""
    body = picture.ljust(1_000_000, b"\0")
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def until_answered(address: Address, pieces: Iterable[bytes]) -> tuple[bytes, bytes, int]:
    """Sends pieces until an answer comes; gives head and body of the answer, and the bytes sent."""
    sent = 0
    with socket.create_connection(address, timeout=120) as connection:
        for piece in pieces:
            connection.sendall(piece)
            sent += len(piece)
            # A client that sends on after the answer may lose the answer (RFC 9112, 9.6).
            if select.select([connection], [], [], 0.05)[0]:
                break
        received = b""
        while parse_answer(received) is None and (chunk := connection.recv(65536)):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return head.lower(), body, sent
