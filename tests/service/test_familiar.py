"""Requests that are refused unparsed: nothing is answered that would not be without that."""

import asyncio
import random
from collections.abc import Callable, Iterator

import pytest

from service.server.familiar import FamiliarHeads
from service.server.refusing import OVERLOAD, RefusingProtocol
from tests.service.wire import connection

ANSWER = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 5\r\n"
REQUEST = HEAD + b"\r\n12345"


@pytest.fixture
def recognized(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each beginning of a request was."""
    recognize, found = FamiliarHeads.recognize, []

    def noted(heads: FamiliarHeads, data: bytes) -> bool:
        found.append(recognize(heads, data))
        return found[-1]

    monkeypatch.setattr(FamiliarHeads, "recognize", noted)
    return found


@pytest.fixture
def overloaded() -> Iterator[Callable[[], RefusingProtocol]]:
    """Connections of one server that refuses all pictures, in an event loop that stands still."""
    heads = FamiliarHeads()

    def connected() -> RefusingProtocol:
        protocol = connection(ANSWER)
        protocol._heads = heads
        return protocol

    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        yield connected


def sent(protocol: RefusingProtocol) -> bytes:
    """What was written to it."""
    return b"".join(protocol.transport._pieces)  # type: ignore[attr-defined]


def test_the_second_is_recognized(
    overloaded: Callable[[], RefusingProtocol], recognized: list[bool]
) -> None:
    """Whatever its body, on any connection."""
    first, second = overloaded(), overloaded()
    first.data_received(REQUEST)
    second.data_received(HEAD + b"\r\nabcde")
    second.data_received(REQUEST)
    assert recognized == [False, True, True]
    assert (sent(first), sent(second)) == (ANSWER, 2 * ANSWER)


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + b"\r\n1234"],
        [HEAD + b"\r\n123456"],
        [HEAD + b"A: b\r\n\r\n12345"],
        [REQUEST[:-1], REQUEST[-1:]],
        [REQUEST[:20], REQUEST[20:]],
        [REQUEST + REQUEST],
        [b"\r\n" + REQUEST],
    ],
    ids=["shorter", "longer", "other head", "cut body", "cut head", "two", "blank line"],
)
def test_others_are_parsed(
    pieces: list[bytes], overloaded: Callable[[], RefusingProtocol], recognized: list[bool]
) -> None:
    """What is not a whole request, or more than one, or of another head."""
    overloaded().data_received(REQUEST)
    protocol = overloaded()
    for piece in pieces:
        protocol.data_received(piece)
    assert not any(recognized)


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"),
        REQUEST.replace(b"Host: x", b"Host: x\r\nConnection: close"),
        REQUEST.replace(b"Host: x", b"Host: x\r\nOrigin: https://a.example"),
        REQUEST.replace(b"/predict", b"/v2/models/m/infer"),
        REQUEST.replace(b"POST", b"PUT"),
        HEAD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"\r\n0\r\n\r\n",
        REQUEST.replace(b"Host: x", b"Host: " + 1024 * b"x"),
    ],
    ids=["1.0", "close", "origin", "inference", "put", "chunked", "long"],
)
def test_not_all_become_familiar(
    request_: bytes, overloaded: Callable[[], RefusingProtocol], recognized: list[bool]
) -> None:
    """Neither what is not refused here, nor what does not tell its length, nor what is long."""
    for _ in range(2):
        overloaded().data_received(request_)
    assert recognized == [False, False]


def test_within_a_body_nothing_is_recognized(
    overloaded: Callable[[], RefusingProtocol], recognized: list[bool]
) -> None:
    """A body that looks like a request is none, be it refused or read."""
    overloaded().data_received(REQUEST)
    around = HEAD.replace(b"Content-Length: 5", b"Content-Length: %d" % (2 * len(REQUEST)))
    for head in (around, around.replace(b"Host", b"Origin: https://a.example\r\nHost")):
        protocol = overloaded()
        for piece in (head + b"\r\n", REQUEST, REQUEST):
            protocol.data_received(piece)
        assert sent(protocol) == (ANSWER if head is around else b"")
    assert not any(recognized)


def test_who_is_admitted_is_asked_for_once(
    overloaded: Callable[[], RefusingProtocol], recognized: list[bool]
) -> None:
    """For each that is not refused is counted as one that waits."""
    overloaded().data_received(REQUEST)
    protocol, times = overloaded(), []
    protocol.app_state[OVERLOAD].refusal = lambda: times.append(1)
    protocol.data_received(REQUEST)
    assert (recognized, times, sent(protocol)) == ([False, True], [1], b"")
    assert protocol.cycle is not None


def test_the_oldest_is_forgotten() -> None:
    """The memory of a thousand heads is all that this takes."""
    heads = FamiliarHeads()
    requests = [b"POST /%d HTTP/1.1\r\n\r\n1" % number for number in range(1100)]
    for request in requests:
        heads.remember(request, [(b"content-length", b"1")])
    assert sum(map(heads.recognize, requests)) == 1024
    assert heads.recognize(requests[-1])
    assert not heads.recognize(requests[0])


def pieces_of(random: random.Random) -> Iterator[bytes]:
    """Requests that are refused, cut up and joined at random."""
    stream = b""
    for _ in range(random.randrange(1, 8)):
        body = random.choice([b"", b"12345", REQUEST, b"\r\n\r\n"])
        chunked = HEAD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")
        plain = HEAD.replace(b": 5", b": %d" % len(body)) + b"\r\n" + body
        stream += random.choice([plain, plain, plain, b"\r\n" + plain, chunked + b"\r\n0\r\n\r\n"])
        if random.random() < 0.8:
            at = random.randrange(len(stream))
            yield from filter(None, random.choice([(stream,), (stream[:at], stream[at:])]))
            stream = b""
    if stream:
        yield stream


def test_with_or_without_it_answers_are_the_same(
    overloaded: Callable[[], RefusingProtocol], recognized: list[bool]
) -> None:
    """However requests are cut, joined and nested."""
    for seed in range(1500):
        familiar, strange = overloaded(), connection(ANSWER)
        for piece in pieces_of(random.Random(seed)):
            strange._heads = FamiliarHeads()
            familiar.data_received(piece)
            strange.data_received(piece)
            assert sent(familiar) == sent(strange)
    assert sum(recognized) > 500
