"""API keys: who may have pictures read."""

import hmac

from starlette.datastructures import Headers

from service.api.errors import UNAUTHORIZED, ProblemError


class ApiKeys:
    """The keys of which a request must have one.

    Args:
        keys: separated by commas; without any, every request is let in.
    """

    def __init__(self, keys: str) -> None:
        self._keys = [key.strip().encode() for key in keys.split(",") if key.strip()]

    def authenticate(self, headers: Headers) -> str:
        """The identity of a client: `key-1` for the first key, and so on; `anonymous` without keys.

        The key is taken from `X-API-Key`, or from a bearer token (RFC 6750).

        Raises:
            ProblemError: there is none, or an unknown one.
        """
        if not self._keys:
            return "anonymous"
        given = headers.get("x-api-key")
        if given is None:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                raise _unauthorized("No API key was sent")
            given = token.strip()
        identity = ""
        # All of them are compared, each in constant time, so that the time tells nothing of a key.
        for number, key in enumerate(self._keys, 1):
            if hmac.compare_digest(given.encode("latin-1"), key):
                identity = f"key-{number}"
        if not identity:
            raise _unauthorized("The API key is not known")
        return identity


def _unauthorized(what: str) -> ProblemError:
    return ProblemError(
        UNAUTHORIZED,
        f"{what}; send it in the header X-API-Key, or as Authorization: Bearer.",
        {"WWW-Authenticate": "Bearer", "Connection": "close"},
    )
