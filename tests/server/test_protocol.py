"""What clients may send on a connection, and how slowly, over real sockets."""

import asyncio
import gc
import json
import socket
import time
import weakref
from collections import deque
from contextlib import suppress
from itertools import repeat

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Scope

from tests import stripes
from tests.server.wire import (
    CHUNKED,
    HEAD,
    KEY,
    LAST,
    READY,
    SECONDS,
    answers,
    parsed,
    picture,
    received,
    statuses,
    talk,
    transport,
    unconnected,
)

Address = tuple[str, int]
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


# Timeouts


def test_a_connection_that_sends_nothing_is_closed(address: Address) -> None:
    """Without an answer."""
    assert talk(address) == []


@pytest.mark.parametrize(
    "begun",
    [b"POST /predi", HEAD, HEAD + KEY + b"Content-Length: 100\r\n\r\nabc"],
    ids=["request line", "headers", "body"],
)
def test_an_incomplete_request_gets_408(begun: bytes, address: Address) -> None:
    """Whichever part of it is missing."""
    ((status, body),) = talk(address, begun)
    assert status == 408
    assert json.loads(body)["type"] == "/problems/request-timeout"


def test_an_upload_of_a_few_bytes_a_second_gets_408(address: Address) -> None:
    """A client has to send a minimum of bytes a second."""
    begun = HEAD + KEY + b"Content-Length: 1000\r\n\r\n"
    assert statuses(address, begun, *[b"x"] * 40, pause=SECONDS / 5) == [408]


def test_a_slow_upload_is_received(address: Address) -> None:
    """However long it takes, as on a phone's uplink, if enough bytes arrive all the time."""
    body = bytes(100_000)
    head = HEAD + KEY + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    pieces = [body[start : start + 5000] for start in range(0, len(body), 5000)]
    assert statuses(address, head, *pieces, pause=SECONDS / 5) == [415]


def test_a_slow_download_is_sent(address: Address) -> None:
    """However long it takes, if the client takes enough bytes all the time."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(address)
        connection.sendall(request * 12)
        data = b""
        for step in range(1, 26):
            time.sleep(SECONDS / 10)
            while len(data) < step * 12_000:
                more = connection.recv(12_000)
                assert more, "the connection was closed"
                data += more
        assert data.count(b"HTTP/1.1 200") < 12, "the client is not slow"
        connection.sendall(LAST)
        data += received(connection)
    assert data.count(b"HTTP/1.1 200") == 13


def test_the_rest_of_a_refused_body_cannot_hold_the_connection_open(address: Address) -> None:
    """The client sends single bytes after an early refusal."""
    begun = HEAD + KEY + b"Content-Length: 99999999\r\n\r\n"
    assert statuses(address, begun, *[b"x"] * 5, pause=SECONDS / 5) in ([413], [])


def test_every_request_has_its_own_timeout(address: Address) -> None:
    """Even a request that begins together with the end of the one before."""
    begun = HEAD + KEY + b"Content-Length: 100\r\n\r\nabc"
    assert statuses(address, READY + begun) == [200, 408]


def test_timely_requests_are_answered_in_order(address: Address) -> None:
    """Requests in pieces, one after the other, and several at once."""
    with socket.create_connection(address, timeout=20) as connection:
        for piece in (picture()[:50], picture()[50:], picture() + READY + picture()):
            connection.sendall(piece)
            time.sleep(SECONDS / 10)
        time.sleep(SECONDS * 1.5)  # an idle connection is not a late request
        connection.sendall(LAST)
        found = answers(connection)
    assert [status for status, _ in found] == [200] * 5
    assert [json.loads(body).get("text") for _, body in found] == ["ab", "ab", None, "ab", None]


def test_an_idle_connection_is_closed(address: Address) -> None:
    """After the keep-alive timeout, and not before."""
    with socket.create_connection(address, timeout=20) as client:
        client.sendall(READY)
        began = time.monotonic()
        assert [status for status, _ in answers(client)] == [200]
        assert time.monotonic() - began > 2 * SECONDS


@pytest.mark.parametrize("following", [b"", READY[:20]], ids=["nothing", "half a request"])
def test_a_connection_is_closed_after_an_early_answer(following: bytes, address: Address) -> None:
    """The body arrives after the answer. A request that follows has its own timeout."""
    begun = HEAD + b"Content-Length: 3\r\n\r\n"  # without a key
    assert statuses(address, begun, b"abc" + following, pause=SECONDS / 4)[0] == 401


def test_a_client_that_takes_no_answers_is_cut_off(address: Address) -> None:
    """It sends requests all the time and never reads. Its answers are not kept for it."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(address, timeout=20) as connection:
        connection.settimeout(SECONDS / 4)
        sent = 0
        with suppress(OSError):
            for _ in range(2000):
                connection.sendall(request)
                sent += 1
        time.sleep(SECONDS * 4)
        connection.settimeout(20)
        data = received(connection)
    # Answers that were sent may be lost when the connection is cut off.
    assert data.count(b"HTTP/1.1 200") < sent


# Limits of size


def test_a_client_that_sends_too_much_gets_the_refusal(address: Address) -> None:
    """Even if it sends its whole body, in chunks, before it reads."""
    chunks = b"10000\r\n" + bytes(65536) + b"\r\n"
    for _ in range(5):
        assert statuses(address, CHUNKED + 48 * chunks + b"0\r\n\r\n") == [413]


@pytest.mark.parametrize("before", [b"", b"20000\r\n" + bytes(1 << 17) + b"\r\n"])
@pytest.mark.parametrize("chunks", [1500, 10**6])
def test_many_tiny_chunks_are_refused(chunks: int, before: bytes, address: Address) -> None:
    """The body is refused early, and the client gets the refusal."""
    found = talk(address, CHUNKED + before + b"1\r\nx\r\n" * chunks + b"0\r\n\r\n" + READY)
    assert [status for status, _ in found] == [400]
    assert b"at least 256 bytes" in found[0][1]


def test_some_tiny_chunks_are_accepted(address: Address) -> None:
    """A hundred bytes may arrive one by one. The chunks of each request are counted anew."""
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in stripes.picture("ab"))
    request = CHUNKED + body + b"1;a=b\r\nx\r\n" * 40 + b"0\r\n\r\n"
    assert statuses(address, request + request + LAST) == [200, 200, 200]


@pytest.mark.parametrize(
    "rest",
    [b"0\r\nX: ", b"0\r\nX", b"1;a=", b"0\r\n" + b"A: b\r\n" * 200],
    ids=["long trailer", "long name", "long extension", "many trailers"],
)
def test_chunk_extensions_and_trailers_are_bounded(rest: bytes, address: Address) -> None:
    """They are refused before they end, as header fields are."""
    assert statuses(address, CHUNKED + rest, *[b"a" * 1000] * 5) == [431]


@pytest.mark.parametrize("chunk", [5000, 100_000])
def test_chunks_do_not_count_as_headers(chunk: int, patient: Address) -> None:
    """However large a chunk is, and in however many pieces it arrives."""
    request = CHUNKED + 2 * (b"%x\r\n" % chunk + b"a" * chunk + b"\r\n") + b"0\r\n\r\n" + LAST
    pieces = [request[start : start + 3001] for start in range(0, len(request), 3001)]
    assert statuses(patient, *pieces, pause=0.001) == [415, 200]
    lines = request.replace(b"a\r\n", b"a\r\n|").replace(b"0\r\na", b"0\r\n|a").split(b"|")
    assert statuses(patient, *lines, pause=0.05) == [415, 200]


def test_a_client_that_never_stops_sending_is_cut_off(address: Address) -> None:
    """After its refusal, the service does not read on for ever."""
    chunks = b"10000\r\n" + bytes(65536) + b"\r\n"
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(CHUNKED)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            deque(map(connection.sendall, repeat(chunks, 10_000)), maxlen=0)


@pytest.mark.parametrize(
    "headers",
    [
        b"A: b\r\n" * 150,
        b"A: b\r\n" * 2000,
        b"A: " + b"b" * 5000 + b"\r\n",
        b"A: " + b"b" * 100_000 + b"\r\n",
        b"A: b\r\n" * 100_000,
    ],
)
@pytest.mark.parametrize("end", [b"\r\n", b""], ids=["complete", "endless"])
@pytest.mark.parametrize("before", [b"", READY], ids=["first", "second"])
def test_headers_are_bounded(headers: bytes, end: bytes, before: bytes, address: Address) -> None:
    """Too many or too long fields are refused. A client that sends on gets the refusal, and the
    answer to the request before.
    """
    found = statuses(address, before + READY[:-2] + headers + end)
    assert found == [200] * bool(before) + [431]


def test_headers_within_the_bound_are_read(address: Address) -> None:
    """Even just below the bound, at once or in pieces."""
    request = LAST[:-2] + b"A: " + b"b" * 1850 + b"\r\n\r\n"
    assert statuses(address, request) == [200]
    pieces = [request[start : start + 100] for start in range(0, len(request), 100)]
    assert statuses(address, *pieces, pause=0.01) == [200]


def test_earlier_requests_do_not_count_as_headers(patient: Address) -> None:
    """Even if they arrive together with the beginning of the next request."""
    together = picture() * 15 + LAST[:20]
    assert len(together) > 2048
    assert statuses(patient, together, LAST[20:], pause=SECONDS / 4) == [200] * 16


def test_pipelined_requests_are_bounded(address: Address) -> None:
    """A client that sends hundreds of requests without waiting for answers is cut off."""
    found = statuses(address, READY * 1000)
    assert found[0] == 200
    assert found[-1] == 400
    assert len(found) < 100


@pytest.mark.parametrize(
    "before", [b"GET /health/live?", b"POST /v2/models/stripes/infer?"], ids=["GET", "POST"]
)
def test_query_parameters_are_bounded(before: bytes, address: Address) -> None:
    """Frameworks parse all of them on the event loop, whether a route has parameters or not."""
    rest = b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    assert statuses(address, before + b"&a" * 200 + rest) == [400]
    assert statuses(address, b"GET /health/live?" + b"&a" * 100 + rest + LAST) == [200, 200]


@pytest.mark.parametrize(("size", "status"), [(1000, 404), (1100, 400)])
def test_paths_are_bounded(size: int, status: int, address: Address) -> None:
    """No route has so long a path, and to find that out takes time."""
    path = b"/page" + b"/a" * (size // 2)
    assert statuses(address, LAST.replace(b"/health/ready", path)) == [status]


def test_cookies_are_dropped() -> None:
    """No route uses them, and older versions of Python parse them in quadratic time."""
    seen: list[bytes] = []

    async def application(scope: Scope, receive: object, send: object) -> None:
        seen.extend(name for name, _ in scope["headers"])

    async def sent() -> None:
        protocol = unconnected(application)
        protocol.connection_made(transport())
        protocol.data_received(READY[:-2] + b"Cookie: a=b\r\nA: b\r\n\r\n")
        await asyncio.sleep(0.01)

    asyncio.run(sent())
    assert seen == [b"host", b"a"]


# Rules of HTTP


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: -1",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: abc",
        b"Content-Length: 99999999999999999999999",
    ],
)
def test_contradictory_lengths_are_refused(lines: bytes, address: Address) -> None:
    """If the end of a request is in doubt, the connection is closed (RFC 9112, 6.3)."""
    ((status, body),) = talk(address, HEAD + KEY + lines + b"\r\n\r\n0\r\n\r\n")
    assert (status, json.loads(body)["type"]) == (400, "/problems/bad-request")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health/live HTTP/1.1\r\n", 400),
        (b"GET /health/live HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400),
        (b"GET /health/live HTTP/1.0\r\nHost: a\r\nHost: a\r\n", 400),
        (b"GET /health/live HTTP/1.1\r\nHost: a b\r\n", 400),
        (b"GET /health/live HTTP/2.0\r\nHost: a\r\n", 400),
        (b"GET /health/live HTTP/1.2\r\nHost: a\r\n", 400),
        (b"GET /health/live HTTP/0.9\r\nHost: a\r\n", 400),
        (b"GET /health/live\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", 400),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n", 400),
        (b"GET http://a HTTP/1.1\r\nHost: a\r\n", 400),
        (b"GET http://a?b HTTP/1.1\r\nHost: a\r\n", 400),
        (b"GET http://a/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", 200),
        (b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
        (b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n", 501),
        (b"POST /predict HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"GET /health/live HTTP/1.0\r\n", 200),
        (b"GET /health/live HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n", 200),
        (b"GET /health/live HTTP/1.1\r\nHost:\r\nConnection: close\r\n", 200),
    ],
)
def test_requests_must_follow_rfc_9112(head: bytes, status: int, address: Address) -> None:
    """Each request has one Host, a known version, and no transfer coding but chunked."""
    assert statuses(address, head + b"\r\n") == [status]


def test_characters_beyond_ascii_must_be_percent_encoded(address: Address) -> None:
    """The refusal of such an address says so."""
    ((status, body),) = talk(address, "GET /model?alphabet=é HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert status == 400
    assert b"percent-encode" in body


@pytest.mark.parametrize(("version", "continues"), [(b"1.1", True), (b"1.0", False)])
def test_100_continue_is_sent_to_http_1_1_only(
    version: bytes, continues: bool, address: Address
) -> None:
    """HTTP/1.0 has no interim responses (RFC 9110, 10.1.1)."""
    request = picture(KEY + b"Expect: 100-continue\r\nConnection: close\r\n")
    request = request.replace(b"HTTP/1.1", b"HTTP/" + version)
    with socket.create_connection(address, timeout=20) as connection:
        head, _, body = request.partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        if continues:
            assert connection.recv(len(interim), socket.MSG_WAITALL) == interim
        connection.sendall(body)
        assert [status for status, _ in answers(connection)] == [200]


def test_spaces_behind_a_header_value_are_ignored(address: Address) -> None:
    """RFC 9110, 5.5. One of the values is a valid API key."""
    asked = b"GET /model HTTP/1.1\r\nHost: x\r\nX-Request-ID: abc \t\r\nX-API-Key: secret  \r\n\r\n"
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(asked)
        head = connection.recv(65536).lower()
    assert head.startswith(b"http/1.1 200")
    assert b"x-request-id: abc\r\n" in head


@pytest.mark.parametrize("request_", [READY, READY[:-9], READY[:-2] + 200 * b"A: b\r\n"])
def test_every_answer_has_security_headers(request_: bytes, address: Address) -> None:
    """Clients must not guess the content type, and no answer names the server."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(request_)
        head = connection.recv(65536).lower()
    assert b"x-content-type-options: nosniff" in head
    assert b"server:" not in head


@pytest.mark.parametrize("pause", [0.0, SECONDS / 5], ids=["at once", "in two parts"])
def test_an_offer_of_another_protocol_is_ignored(pause: float, address: Address) -> None:
    """The request is read like any other, with its body (RFC 9110, 7.8)."""
    head, _, body = picture(KEY + OFFER).partition(b"\r\n\r\n")
    found = talk(address, head + b"\r\n\r\n", body + LAST, pause=pause)
    assert [status for status, _ in found] == [200, 200]
    assert json.loads(found[0][1])["text"] == "ab"


def test_a_body_is_not_parsed_as_a_request(address: Address) -> None:
    """Whatever it looks like, even behind the offer of another protocol."""
    length = b"Content-Length: %d\r\n\r\n" % len(READY)
    assert statuses(address, HEAD + KEY + OFFER + length, READY, LAST, pause=0.2) == [415, 200]


def test_a_key_in_the_trailer_does_not_count(address: Address) -> None:
    """Trailer fields are not header fields (RFC 9110, 6.5.1)."""
    body = stripes.picture("ab")
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    request = head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n" + KEY + b"\r\n"
    assert statuses(address, request) == [401]


# Requests that share a connection


@pytest.mark.parametrize("together", [True, False], ids=["at once", "in two parts"])
def test_a_trailer_may_end_the_connection(together: bool, address: Address) -> None:
    """The answer is then the last one, and its `Connection: close` says so."""
    body = stripes.picture("ab")
    request = CHUNKED + b"%x\r\n" % len(body) + body + b"\r\n0\r\nConnection: close\r\n\r\n"
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(request + READY * together)
        data = received(connection)
    assert [status for status, _ in parsed(data)] == [200]
    assert b"connection: close" in data.lower()


@pytest.mark.parametrize(
    ("late", "status"),
    [
        (b"!\r\n\r\n", 400),
        (READY[:-2] + b"A: " + b"b" * 5000 + b"\r\n\r\n", 431),
        (READY[:-2] + b"A: b\r\n" * 150 + b"\r\n", 431),
        (HEAD + b"Content-Length: x\r\n\r\n", 400),
        (CHUNKED + b"ZZ\r\n", 400),
    ],
    ids=["not HTTP", "long field", "many fields", "bad length", "bad chunk"],
)
@pytest.mark.parametrize("pause", [0.0, SECONDS / 4], ids=["at once", "in two parts"])
def test_requests_before_a_malformed_one_are_answered(
    late: bytes, status: int, pause: float, address: Address
) -> None:
    """The malformed request is refused after them."""
    found = statuses(address, picture() + READY, late, pause=pause)
    assert found == [200, 200, status]
    assert statuses(address, picture() + READY + late) == [200, 200, status]


@pytest.mark.parametrize(("before", "status"), [(HEAD, 401), (READY[:-2], 200)])
def test_a_request_has_only_one_answer(before: bytes, status: int, address: Address) -> None:
    """Even if its body turns out to be malformed after the answer, which is then the last one."""
    begun = before + b"Transfer-Encoding: chunked\r\n\r\n"
    assert statuses(address, begun, b"ZZ\r\n", pause=SECONDS / 4) == [status]


def test_keys_are_checked_before_the_body(address: Address) -> None:
    """A client without a key is refused before it has sent a byte of the body."""
    assert statuses(address, HEAD + b"Content-Length: 100\r\n\r\n") == [401]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (picture(), [200]),
        (picture() + READY + picture(), [200, 200, 200]),
        (picture() + READY[:-5], [200, 400]),
        (picture()[:-5], [400]),
        (b"", []),
    ],
    ids=["one", "several", "one and a half", "half", "none"],
)
def test_a_client_that_stops_sending_gets_its_answers(
    sent: bytes, expected: list[int], address: Address
) -> None:
    """A client may close its half of the connection after its last request."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert [status for status, _ in answers(connection)] == expected


# Memory


@pytest.mark.parametrize(("method", "body"), [(b"GET", b"Hello"), (b"HEAD", b"")])
def test_head_and_body_are_written_together(method: bytes, body: bytes) -> None:
    """With a second system call for each answer, a killed process would leave half answers, and the
    service would carry less load.
    """

    async def written() -> list[bytes]:
        protocol, done = unconnected(PlainTextResponse("Hello")), asyncio.Event()
        client = transport()
        protocol.connection_made(client)
        protocol.on_response_complete = done.set  # type: ignore[method-assign]
        protocol.data_received(READY.replace(b"GET", method, 1))
        await asyncio.wait_for(done.wait(), 20)
        return [call.args[0] for call in client.write.call_args_list]

    (answer,) = asyncio.run(written())
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.partition(b"\r\n\r\n")[2] == body


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        READY[:-2],
        b"A" * 5000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1000,
        READY * 5,
        HEAD + b"\r\n",
        HEAD + b"Content-Length: 9\r\n\r\n12345",
    ],
)
def test_a_lost_connection_frees_its_memory(sent: bytes) -> None:
    """At once, and not at the next garbage collection."""

    async def application(scope: object, receive: object, send: object) -> None:
        """Answers nothing."""

    async def left() -> object:
        protocol = unconnected(application)
        protocol.connection_made(transport())
        protocol.data_received(sent)
        protocol.connection_lost(ConnectionResetError())
        await asyncio.sleep(0.01)  # the request ends, too
        lost = weakref.ref(protocol)
        del protocol
        return lost()

    gc.disable()
    try:
        assert asyncio.run(left()) is None
    finally:
        gc.enable()
