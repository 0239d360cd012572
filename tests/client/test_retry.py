from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from captcha_ocr_client import (
    ProblemError,
    Retry,
)
from captcha_ocr_client.retry import retry_after
from tests.client.scripted import OVERLOADED, PREDICTION, Call, both


@both
def test_asks_again_after_as_long_as_the_service_says(use: Call, scripted: Call) -> None:
    """Two refusals with Retry-After, then the answer; the picture is sent anew each time."""
    busy = (503, {"Retry-After": "1"}, OVERLOADED)
    now = (503, {"Retry-After": "0"}, OVERLOADED)
    address, server = scripted(busy, now, (200, {}, PREDICTION))
    assert use(address, lambda c: c.predict(b"picture"), api_key="k").text == "ab"
    times = [asked[0] for asked in server.asked]
    assert len(times) == 3
    assert times[1] - times[0] >= 1
    assert all(b"picture" in body for *_, body in server.asked)


@both
def test_gives_up_after_its_attempts(use: Call, scripted: Call) -> None:
    """With the problem of the last one."""
    address, server = scripted((503, {"Retry-After": "0"}, OVERLOADED))
    with pytest.raises(ProblemError, match=r"503 Busy: Later\."):
        use(address, lambda c: c.predict(b"picture"), retry=Retry(attempts=3))
    assert len(server.asked) == 3


@both
def test_never_waits_beyond_its_deadline(use: Call, scripted: Call) -> None:
    """What would have to wait longer fails at once."""
    address, server = scripted((503, {"Retry-After": "3600"}, OVERLOADED))
    with pytest.raises(ProblemError):
        use(address, lambda c: c.predict(b"picture"), retry=Retry(seconds=5))
    assert len(server.asked) == 1


@both
def test_the_deadline_does_not_shorten_the_timeout(use: Call, scripted: Call) -> None:
    """A request that was begun in time is waited for as long as any."""
    address, _ = scripted((200, {"Delay": "0.4"}, PREDICTION))
    prediction = use(address, lambda c: c.predict(b"picture"), retry=Retry(seconds=0.1), timeout=20)
    assert prediction.text == "ab"


@both
def test_only_an_overload_is_asked_again(use: Call, scripted: Call) -> None:
    """What is wrong stays wrong."""
    address, server = scripted((422, {}, OVERLOADED | {"status": 422}))
    with pytest.raises(ProblemError):
        use(address, lambda c: c.predict(b"picture"))
    assert len(server.asked) == 1


@both
def test_health_checks_answer_at_once(use: Call, scripted: Call) -> None:
    """A service that is not ready is not, and is not waited for."""
    address, server = scripted((503, {"Retry-After": "3600"}, OVERLOADED))
    assert use(address, lambda c: c.ready()) is False
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0), (" 0 ", 0.0), ("", None), ("soon", None), ("-3", None), ("1.5", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999", None),
    ],
)  # fmt: skip
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    """A whole number of seconds; anything else is as if it were absent."""
    assert retry_after(httpx2.Response(503, headers={"Retry-After": value})) == seconds


def test_retry_after_as_a_date() -> None:
    """The time until then, and none where it has passed."""
    for ahead, least, most in ((60, 50, 60), (-60, 0, 0)):
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
        seconds = retry_after(httpx2.Response(503, headers={"Retry-After": date}))
        assert seconds is not None
        assert least <= seconds <= most


@pytest.mark.parametrize("status", [429, 503])
def test_without_retry_after_pauses_grow(status: int) -> None:
    """Each is twice the one before, within the deadline."""
    response = httpx2.Response(status)
    pauses = [Retry(attempts=9).pause(response, attempt, 0) for attempt in (1, 2, 3)]
    assert pauses == [0.5, 1.0, 2.0]
    assert Retry(attempts=9).pause(response, 3, 29) is None
    assert Retry(attempts=9).pause(httpx2.Response(500), 1, 0) is None


@pytest.mark.parametrize("options", [{"attempts": 0}, {"seconds": 0}])
def test_a_retry_that_cannot_be(options: dict[str, int]) -> None:
    """It says what it takes."""
    with pytest.raises(ValueError, match="attempts must be at least 1"):
        Retry(**options)
