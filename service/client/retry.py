"""When to ask again: where the service answers 503, and after as long as it says."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from httpx2 import Response

UNAVAILABLE = 503
_FIRST_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to insist.

    Args:
        attempts: requests in all; 1 never asks again.
        seconds: no request is begun when so many have passed since the first.
    """

    attempts: int = 5
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.seconds <= 0:
            raise ValueError(
                f"attempts is {self.attempts} and seconds {self.seconds}; it takes 1 attempt and "
                "a time above 0."
            )

    def pause(self, response: Response, attempt: int, elapsed: float) -> float | None:
        """Seconds to wait before asking again; None where the answer is final.

        Args:
            attempt: of how many-th request the response is, from 1.
            elapsed: seconds since the first one began.
        """
        if response.status_code != UNAVAILABLE or attempt >= self.attempts:
            return None
        wanted = retry_after(response)
        pause = _FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) if wanted is None else wanted
        return pause if elapsed + pause < self.seconds else None


def retry_after(response: Response) -> float | None:
    """The seconds of `Retry-After`, a number or a date (RFC 9110, section 10.2.3), if it is one."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    # A date without a zone is in UTC.
    moment = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
