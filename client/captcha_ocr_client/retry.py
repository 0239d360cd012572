"""Repeats requests that are answered with 429 or 503, once the time in `Retry-After` is over."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from httpx2 import Response

UNAVAILABLE = 503
_RETRIED = (429, UNAVAILABLE)
_FIRST_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Retry:
    """How often to repeat a request that is answered with 429 or 503.

    Args:
        attempts: requests in all, at least 1; 1 never repeats.
        seconds: no request begins later than this many seconds after the first; above 0.

    Raises:
        ValueError: an argument is out of its range.
    """

    attempts: int = 5
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.seconds <= 0:
            raise ValueError(
                f"attempts is {self.attempts} and seconds is {self.seconds}; attempts must be at "
                "least 1, and seconds above 0"
            )

    def pause(self, response: Response, attempt: int, elapsed: float) -> float | None:
        """Seconds to wait before the next request; None if no request should follow.

        Args:
            response: the answer to the latest request.
            attempt: number of requests sent so far, at least 1.
            elapsed: seconds since the first request began.
        """
        if response.status_code not in _RETRIED or attempt >= self.attempts:
            return None
        wanted = retry_after(response)
        pause = _FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) if wanted is None else wanted
        return pause if elapsed + pause < self.seconds else None


def retry_after(response: Response) -> float | None:
    """The seconds in `Retry-After`, which is a number or a date (RFC 9110, section 10.2.3).

    None if the header is absent or invalid.
    """
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        # A date without a zone is in UTC.
        moment = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None
