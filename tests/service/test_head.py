import asyncio
from unittest.mock import Mock

import pytest

from tests.service.wire import HEAD, READY, SECONDS, connection, picture, talk


@pytest.mark.parametrize(
    "headers",
    [
        b"A: b\r\n" * 150,
        b"A: b\r\n" * 2000,
        b"A: " + b"b" * 5000 + b"\r\n",
        b"A: b\r\n" * 100_000,
    ],
)
@pytest.mark.parametrize("end", [b"\r\n", b""], ids=["complete", "endless"])
def test_headers_are_bounded(headers: bytes, end: bytes, address: tuple[str, int]) -> None:
    """Too many or too long headers are refused, and whoever sends on hears of it."""
    received = talk(address, b"GET /health/ready HTTP/1.1\r\nHost: x\r\n" + headers + end)
    assert [status for status, _ in received] == [431]


@pytest.mark.parametrize("line", [b"A: " + 20 * b"b" + b"\r\n", b"A: " + 200 * b"b" + b"\r\n"])
def test_headers_beyond_the_bound_are_not_kept(line: bytes) -> None:
    """However many arrive at once, there is never more of them in memory than the limit."""

    async def kept() -> int:
        protocol = connection()
        protocol.data_received(b"GET / HTTP/1.1\r\n" + line * 25_000)
        protocol.connection_lost(None)
        return sum(len(name) + len(value) + 4 for name, value in protocol.headers)

    assert 1000 < asyncio.run(kept()) <= 2048


def sent(*pieces: bytes, answer: bytes | None = None) -> bytes:
    """What a connection writes that is sent a chunked body; 2048 bytes of headers are allowed."""

    async def written() -> bytes:
        protocol = connection(answer)
        write = protocol.transport.write = Mock()  # type: ignore[method-assign]
        protocol.transport.is_closing = lambda: write.called and answer is None
        for piece in (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *pieces):
            protocol.data_received(piece)
        protocol.connection_lost(None)
        return b"".join(call.args[0] for call in write.mock_calls)

    return asyncio.run(written())


@pytest.mark.parametrize("name", [b"X: ", b"X"], ids=["value", "name"])
def test_an_endless_trailer_is_refused(name: bytes) -> None:
    """Fields behind the body are bounded before they end, as those before it are."""
    assert sent(b"0\r\n" + name, *[b"a" * 1000] * 2) == b""
    assert sent(b"0\r\n" + name, *[b"a" * 1000] * 3).startswith(b"HTTP/1.1 431 ")


def test_the_size_of_a_chunk_is_bounded() -> None:
    """What extends it, too (RFC 9112, 7.1.1); anew for each, and of many there may be much more."""
    extended = [b"1;a=", b"a" * 1000, b"\r\nx\r\n"]
    assert sent(*extended * 5, b"0\r\n\r\n") == b""
    assert sent(*extended, b"1;a=", *[b"a" * 1000] * 3).startswith(b"HTTP/1.1 431 ")


ONE_BYTE = b"1\r\nx\r\n"


@pytest.mark.parametrize("pieces", [1, 100], ids=["at once", "in pieces"])
@pytest.mark.parametrize("answer", [None, b"no"], ids=["accepted", "refused"])
def test_chunks_are_not_counted_for_ever(answer: bytes | None, pieces: int) -> None:
    """Each costs time; so there may be many tiny ones, and any number that hold something."""
    few, many = [ONE_BYTE * (number // pieces) for number in (4000, 5000)]
    assert sent(*[few] * pieces, b"0\r\n\r\n", answer=answer) == (answer or b"")
    refusal = sent(*[many] * pieces)
    assert refusal.startswith(b"HTTP/1.1 400 ")
    assert b"at least 64 bytes" in refusal
    sound = b"40\r\n" + b"x" * 64 + b"\r\n"
    assert sent(*[sound * 200] * 100, b"0\r\n\r\n") == b""


def test_chunks_of_a_request_before_do_not_count() -> None:
    """Each request has its own."""
    request = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    assert sent(ONE_BYTE * 4000 + b"0\r\n\r\n" + request, ONE_BYTE * 4000) == b""


@pytest.mark.parametrize("answer", [None, b"no"], ids=["accepted", "refused"])
def test_a_body_in_chunks_is_no_trailer(answer: bytes | None) -> None:
    """However large a chunk is, and into how many pieces it is cut."""
    chunk = [b"1388\r\n", *[b"a" * 1000] * 5, b"\r\n"]
    assert sent(*chunk, *chunk, b"0\r\n\r\n", answer=answer) == (answer or b"")


def test_headers_within_the_bound(address: tuple[str, int]) -> None:
    """Just below the bound they are read."""
    request = READY[:-2] + b"A: " + b"b" * 1900 + b"\r\nConnection: close\r\n\r\n"
    assert [status for status, _ in talk(address, request)] == [200]


def test_requests_before_it_do_not_count_as_headers(address: tuple[str, int]) -> None:
    """Requests that arrive together with the beginning of another one are not its headers."""
    last = READY[:-2] + b"Connection: close\r\n\r\n"
    together = picture() * 15 + last[:20]
    assert len(together) > 2048
    received = talk(address, together, last[20:], pause=SECONDS / 4)
    assert [status for status, _ in received] == [200] * 16
