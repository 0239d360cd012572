"""The memory that one large request takes, as the operating system measures it.

`tracemalloc` does not see what pydantic allocates while it parses.
"""

import http.client
import json
import math
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests import stripes
from tests.server.process import address_of, start, until, wait

MB = 1_000_000
_BODY_BYTES = 8 * MB
_IMAGE = [stripes.WIDTH, stripes.HEIGHT, 1]
_IMAGES = 260_000 // math.prod(_IMAGE)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def _request(name: str, datatype: str, shape: list[int], data: bytes) -> bytes:
    head = json.dumps({"name": name, "datatype": datatype, "shape": shape})
    return b'{"inputs": [%s, "data": %s}]}' % (head[:-1].encode(), data)


def _images(number: bytes) -> bytes:
    numbers = b",".join([number] * (_IMAGES * math.prod(_IMAGE)))
    return _request("image", "FP32", [_IMAGES, *_IMAGE], b"[%s]" % numbers)


def _picture(text: bytes) -> bytes:
    return _request("picture", "BYTES", [1], b'["%s"]' % text)


def _bodies() -> Iterator[tuple[str, int, bytes]]:
    """Yields the name of each request, the status of its answer, and its body."""
    letters = b"A" * _BODY_BYTES
    smile = "😀".encode()
    yield "numbers", 200, _images(b"0.12345678901234567")
    yield (
        "whole numbers of 20 digits, which give no finite probabilities",
        400,
        _images(b"12345678901234567890"),
    )
    yield "numbers of 30 digits", 200, _images(b"0." + b"1" * 28)
    yield (
        "one number",
        400,
        _request("image", "FP32", [1, *_IMAGE], b"[1%s]" % (b"0" * len(letters))),
    )
    yield "lists", 400, _request("image", "FP32", [1, *_IMAGE], b"[%s]" % (b"[1]," * 130_000)[:-1])
    yield "lists in parameters", 400, b'{"parameters": [%s]}' % (b"[1]," * 130_000)[:-1]
    yield "inputs without members", 400, b'{"inputs": [%s]}' % (b"{}," * 20_000)[:-1]
    yield "bad base64", 400, _picture(letters + b"?")
    yield "beyond ASCII", 400, _picture(smile + letters)
    yield "a long name", 400, _request("n", "BYTES", [1], b"[]").replace(b'"n"', b'"%s"' % letters)
    yield "a name beyond ASCII", 400, b'{"inputs": [{"name": "%s"}]}' % (smile + letters)
    yield "a long id", 400, b'{"id": "%s"}' % (smile + letters)
    yield "a long parameter", 400, b'{"parameters": {"%s": 1}}' % (smile + letters)
    yield "cut short", 400, _picture(letters)[:-5]


def test_a_large_request_takes_little_memory(stripe_model: Path) -> None:
    """It takes little more than its body and its tensor, and nothing after its answer."""
    with start(port=0, threads=1, max_batch=1024, model_path=stripe_model) as process:
        try:
            address = address_of(process)
            wait(address)
            peaks = dict(_peaks(process.pid, address))
        finally:
            process.kill()
    assert max(peaks.values()) > 5 * MB  # the measurement works
    assert {name: peak for name, peak in peaks.items() if peak > 2.5 * _BODY_BYTES} == {}


def _peaks(process: int, address: str) -> Iterator[tuple[str, int]]:
    """Yields the name of each request, and the bytes by which memory rises until its answer."""
    files = Path("/proc") / str(process)

    def resident(field: str) -> int:
        lines = (files / "status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))

    def is_freed(before: int) -> bool:
        return resident("VmRSS") < before + 3 * MB

    with closing(http.client.HTTPConnection(address.removeprefix("http://"))) as connection:
        for name, status, body in _bodies():
            for _ in range(2):  # what the first request of a kind allocates may stay
                before = resident("VmRSS")
                (files / "clear_refs").write_text("5")  # resets the peak
                connection.request("POST", "/v2/models/stripes/infer", body)
                with connection.getresponse() as answer:
                    answer.read()
                assert answer.status == status, name
                peak = resident("VmHWM") - before
            until(partial(is_freed, before), f"{name}: memory is freed")
            yield name, peak
