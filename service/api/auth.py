"""API keys: who may have pictures read."""

import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers

from service.api.errors import UNAUTHORIZED, ProblemError


class ApiKeys:
    """The keys that are accepted; where there are none, everybody is.

    Args:
        keys: separated by commas.
    """

    def __init__(self, keys: str) -> None:
        self._keys = [key.strip().encode() for key in keys.split(",") if key.strip()]

    def check(self, headers: Headers) -> None:
        """Lets a request pass that has a key in `X-API-Key`, or as a bearer token (RFC 6750).

        Raises:
            ProblemError: it has none, or a wrong one.
        """
        if not self._keys:
            return
        given = headers.get("x-api-key")
        if given is None:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            given = token.strip() if scheme.lower() == "bearer" else None
        if given is None:
            raise _unauthorized("No API key was sent")
        if not _matches_any(given.encode("latin-1"), self._keys):
            raise _unauthorized("The API key is not known")


def _matches_any(given: bytes, keys: Iterable[bytes]) -> bool:
    # All of them, each in constant time, so that the time tells nothing of a key.
    return sum(hmac.compare_digest(given, key) for key in keys) > 0


def _unauthorized(what: str) -> ProblemError:
    return ProblemError(
        UNAUTHORIZED,
        f"{what}; send it in the header X-API-Key, or as Authorization: Bearer.",
        {"WWW-Authenticate": "Bearer", "Connection": "close"},
    )
