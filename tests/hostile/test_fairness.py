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


@pytest.mark.parametrize(
    "kind",
    ["a text that must be searched for", "a batch of these", "numbers", "numbers without commas"],
)
def test_a_good_client_beside_senders_of_dear_questions(
    kind: str, normal: bytes, some: Callable[[int, int], int]
) -> None:
    """What takes long in Python waits behind single pictures, or is refused before it is parsed."""
    seconds = some(20, 10)
    question = b"?length=49&alternatives=10 HTTP"
    dear = {
        "a text that must be searched for": payloads.raw([normal])[0].replace(
            b" HTTP", question, 1
        ),
        "a batch of these": payloads.batch([normal])[0].replace(b" HTTP", question, 1),
        "numbers": _infer([b"0"] * 260_000, b","),
        "numbers without commas": _infer([b"0"] * 260_000, b" "),
    }[kind]
    (good,) = payloads.raw([normal])
    context = multiprocessing.get_context("spawn")
    with watched() as service, ProcessPoolExecutor(1, context) as pool:
        alone = share_read(service.address, good, seconds)
        pool.submit(abs, 0).result()
        statuses = pool.submit(send_dear, service.address, [dear], seconds + 2)
        beside = share_read(service.address, good, seconds)
        assert statuses.result().keys() <= {200, 400, 503}
        assert service.alive
    assert beside >= KEPT * alone


def _infer(numbers: Sequence[bytes], between: bytes) -> bytes:
    head = b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [26, 200, 50, 1], "data": ['
    body = head + between.join(numbers) + b"]}]}"
    return payloads.post("/v2/models/captcha/infer", "application/json", body)
