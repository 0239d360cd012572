from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from captcha_ocr_client import (
    ProblemError,
    Retry,
)
from captcha_ocr_client.retry import retry_after
from tests.client.scripted import OVERLOADED, PREDICTION, Call, both_clients


@both_clients
def test_a_refused_request_is_repeated_when_the_service_says(use: Call, scripted: Call) -> None:
    """Two refusals have Retry-After, then comes the answer. Each request contains the picture."""
    busy = (503, {"Retry-After": "1"}, OVERLOADED)
    now = (503, {"Retry-After": "0"}, OVERLOADED)
    address, server = scripted(busy, now, (200, {}, PREDICTION))
    assert use(address, lambda c: c.predict(b"picture"), api_key="k").text == "ab"
    times = [request[0] for request in server.requests]
    assert len(times) == 3
    assert times[1] - times[0] >= 1
    assert all(b"picture" in body for *_, body in server.requests)


@both_clients
def test_the_client_gives_up_after_its_attempts(use: Call, scripted: Call) -> None:
    """It raises the problem of the last attempt."""
    address, server = scripted((503, {"Retry-After": "0"}, OVERLOADED))
    with pytest.raises(ProblemError, match=r"503 Busy: Later\."):
        use(address, lambda c: c.predict(b"picture"), retry=Retry(attempts=3))
    assert len(server.requests) == 3


@both_clients
def test_the_client_never_waits_beyond_its_deadline(use: Call, scripted: Call) -> None:
    """A request that would have to wait longer fails at once."""
    address, server = scripted((503, {"Retry-After": "3600"}, OVERLOADED))
    with pytest.raises(ProblemError):
        use(address, lambda c: c.predict(b"picture"), retry=Retry(seconds=5))
    assert len(server.requests) == 1


@both_clients
def test_the_deadline_does_not_shorten_the_timeout(use: Call, scripted: Call) -> None:
    """A request that begins before the deadline has the whole timeout."""
    address, _ = scripted((200, {"Delay": "0.4"}, PREDICTION))
    prediction = use(address, lambda c: c.predict(b"picture"), retry=Retry(seconds=0.1), timeout=20)
    assert prediction.text == "ab"


@both_clients
def test_only_a_request_refused_under_overload_is_repeated(use: Call, scripted: Call) -> None:
    """An invalid request stays invalid."""
    address, server = scripted((422, {}, OVERLOADED | {"status": 422}))
    with pytest.raises(ProblemError):
        use(address, lambda c: c.predict(b"picture"))
    assert len(server.requests) == 1


@both_clients
def test_health_checks_are_not_repeated(use: Call, scripted: Call) -> None:
    """The client does not wait until the service is ready."""
    address, server = scripted((503, {"Retry-After": "3600"}, OVERLOADED))
    assert use(address, lambda c: c.ready()) is False
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0), (" 0 ", 0.0), ("", None), ("soon", None), ("-3", None), ("1.5", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999", None),
    ],
)  # fmt: skip
def test_retry_after_may_be_a_whole_number_of_seconds(value: str, seconds: float | None) -> None:
    """Anything else is ignored."""
    assert retry_after(httpx2.Response(503, headers={"Retry-After": value})) == seconds


def test_retry_after_may_be_a_date() -> None:
    """The pause lasts until this date. There is none if the date has passed."""
    for ahead, least, most in ((7200, 3600, 7200), (-60, 0, 0)):
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
        seconds = retry_after(httpx2.Response(503, headers={"Retry-After": date}))
        assert seconds is not None
        assert least <= seconds <= most


@pytest.mark.parametrize("status", [429, 503])
def test_without_retry_after_pauses_grow(status: int) -> None:
    """Each pause is twice as long as the one before, within the deadline."""
    response = httpx2.Response(status)
    pauses = [Retry(attempts=9).pause(response, attempt, 0) for attempt in (1, 2, 3)]
    assert pauses == [0.5, 1.0, 2.0]
    assert Retry(attempts=9).pause(response, 3, 29) is None
    assert Retry(attempts=9).pause(httpx2.Response(500), 1, 0) is None


@pytest.mark.parametrize("options", [{"attempts": 0}, {"seconds": 0}])
def test_an_invalid_retry_is_refused(options: dict[str, int]) -> None:
    """The error says what is valid."""
    with pytest.raises(ValueError, match="attempts must be at least 1"):
        Retry(**options)
