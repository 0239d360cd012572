"""API keys: which clients may have pictures read and see private paths."""

import hmac
from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.datastructures import Headers

from service.api.errors import UNAUTHORIZED, ProblemError
from service.settings import Settings, named_keys, split_list

KEY_NAME = "captcha_ocr.key_name"
"""The key under which a request's scope holds the name of its API key, for the log."""


class ApiKeys:
    """Checks the API keys of requests: `OCR_API_KEYS`.

    Attributes:
        private: paths that need a key, too: `OCR_PRIVATE_PATHS`.
    """

    def __init__(self, settings: Settings) -> None:
        self._keys = [(name, key.encode()) for name, key in named_keys(settings.api_keys)]
        self.private = frozenset(split_list(settings.private_paths))

    def authenticate(self, request: Request) -> str | None:
        """Returns the name of the request's key and stores it in the request's scope. Returns None
        if the service has no keys.

        The key is taken from `X-API-Key`, or from a bearer token (RFC 6750).

        Raises:
            ProblemError: the key is missing or unknown.
        """
        if not self._keys:
            return None
        given = _key_in(request.headers).encode("latin-1")
        found = None
        # Compares all keys, each in constant time, so that the time reveals nothing about a key.
        for name, key in self._keys:
            if hmac.compare_digest(given, key):
                found = name
        if found is None:
            raise _unauthorized("The API key is not known")
        request.scope[KEY_NAME] = found
        return found


def private(path: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency for routes that need a key if `OCR_PRIVATE_PATHS` contains this path."""

    async def authorize(request: Request) -> None:
        keys: ApiKeys = request.app.state.keys
        if path in keys.private:
            keys.authenticate(request)

    return authorize


def _key_in(headers: Headers) -> str:
    given = headers.get("x-api-key")
    if given is not None:
        return given
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise _unauthorized("No API key was sent")
    return token.strip()


def _unauthorized(what: str) -> ProblemError:
    return ProblemError(
        UNAUTHORIZED,
        f"{what}; send it in the header X-API-Key, or as Authorization: Bearer.",
        {"WWW-Authenticate": "Bearer", "Connection": "close"},
    )
