"""What a good client keeps of its answers beside senders of the dearest pictures."""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import pytest

from benchmarks import payloads
from benchmarks.connection import Address
from benchmarks.dear_pictures import SMOOTH, dearest, kinds
from benchmarks.load import LoadGenerator
from service.ocr.preprocessing import DEFAULT_MAX_PIXELS
from tests.hostile.process import watched
from tests.hostile.record import record

pytestmark = pytest.mark.hostile

KEPT = 0.9
"""Share of its answers that the good client keeps."""

KEPT_BESIDE_PYTHON = 0.8
"""The same beside what is computed in Python, whose lock its answers need, too."""

RATE = 20.0
"""Pictures that it sends in a second."""

SENDERS = 4
DEAR_KINDS = (
    "PNG type 6, 16 bits, interlaced",
    "JPEG CMYK, 64 scans",
    "WEBP RGBA, lossless",
    "GIF, interlaced",
)


def send_dear(address: Address, requests: Sequence[bytes], seconds: float) -> Counter[int]:
    """The statuses that senders get who send as soon as they are answered."""
    with LoadGenerator(address, requests, SENDERS) as load:
        return Counter(outcome.status for outcome in load.closed_loop(seconds))


def share_read(address: Address, request: bytes, seconds: float) -> float:
    """The share of a good client's pictures that is read."""
    with LoadGenerator(address, [request], 8) as load:
        outcomes = load.open_loop(RATE, seconds)
    return sum(outcome.status == 200 for outcome in outcomes) / len(outcomes)


def test_a_good_client_beside_senders_of_the_dearest_pictures(
    normal: bytes, some: Callable[[int, int], int]
) -> None:
    """Large pictures of every format take one thread and wait in their own queue."""
    seconds = some(60, 10)
    makers = kinds()
    dear = [
        picture
        for kind in DEAR_KINDS
        for picture in dearest(makers[kind], DEFAULT_MAX_PIXELS, (15, SMOOTH))
    ]
    (good,) = payloads.raw([normal])
    context = multiprocessing.get_context("spawn")
    with watched() as service, ProcessPoolExecutor(1, context) as pool:
        alone = share_read(service.address, good, seconds)
        pool.submit(abs, 0).result()  # the process has started before the senders' time begins
        statuses = pool.submit(send_dear, service.address, payloads.raw(dear), seconds + 2)
        beside = share_read(service.address, good, seconds)
        answered = statuses.result()
        assert service.alive
    record(
        "fairness",
        rate=RATE,
        senders=SENDERS,
        seconds=seconds,
        alone=alone,
        beside=beside,
        dear_statuses=dict(answered),
    )
    assert answered.keys() <= {200, 503}
    assert answered[200] > 0
    assert beside >= KEPT * alone


def test_a_good_client_beside_senders_of_dear_questions(
    normal: bytes, some: Callable[[int, int], int]
) -> None:
    """What takes long in Python waits behind single pictures, or is refused before it is parsed."""
    seconds = some(20, 5)
    (good,) = payloads.raw([normal])
    dear = {
        "a search": good.replace(b" HTTP", b"?length=49&alternatives=10 HTTP", 1),
        "numbers": infer(b",".join([b"0"] * 260_000)),
        "numbers without commas": infer(b" ".join([b"0"] * 260_000)),
    }
    context = multiprocessing.get_context("spawn")
    with watched() as service, ProcessPoolExecutor(1, context) as pool:
        alone = share_read(service.address, good, seconds)
        pool.submit(abs, 0).result()  # as above
        beside = {}
        for kind, request in dear.items():
            statuses = pool.submit(send_dear, service.address, [request], seconds + 2)
            beside[kind] = share_read(service.address, good, seconds)
            assert statuses.result().keys() <= {200, 400, 503}, kind
        assert service.alive
    assert {kind: one for kind, one in beside.items() if one < KEPT_BESIDE_PYTHON * alone} == {}


def infer(numbers: bytes) -> bytes:
    """An inference request for 26 tensors of the bundled model's size."""
    head = b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [26, 200, 50, 1], "data": ['
    body = head + numbers + b"]}]}"
    return payloads.post("/v2/models/captcha/infer", "application/json", body)
