"""Takes the client's address and the path prefix from headers of trusted proxies."""

from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service.settings import ROOT_PATH

PREFIX = "captcha_ocr.prefix"
"""The key under which a request's scope holds the path prefix that a trusted proxy has stripped."""

_FORWARDED = b"x-forwarded-for"
_MAX_FORWARDED_BYTES = 1024
"""Largest `X-Forwarded-For`, in bytes. Each address in it takes 5 µs of the event loop, and
thousands of addresses would be kept in memory."""


class ProxyHeaders(ProxyHeadersMiddleware):
    """uvicorn's middleware for `X-Forwarded-For` and `X-Forwarded-Proto`, and `X-Forwarded-Prefix`.

    A prefix that is not a plain path is ignored, and so is an `X-Forwarded-For` of over 1,024
    bytes.

    Args:
        trusted_hosts: addresses and networks of proxies, or `*` alone: any peer is a proxy, and
            the client's address is the last one in `X-Forwarded-For`, which that proxy has added.
    """

    def __init__(self, app: ASGIApp, trusted_hosts: Sequence[str]) -> None:
        forms = [form for host in trusted_hosts for form in _forms(host)]
        super().__init__(app, forms)  # type: ignore[arg-type]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Follows the ASGI specification, version 3."""
        if scope["type"] == "http":
            client = scope["client"]
            if (client and client[0]) in self.trusted_hosts:
                prefix = Headers(scope=scope).get("x-forwarded-prefix", "").rstrip("/")
                if prefix and ROOT_PATH.fullmatch(prefix):
                    scope[PREFIX] = prefix
                forwarded = [value for name, value in scope["headers"] if name == _FORWARDED]
                if self.trusted_hosts.always_trust:
                    # uvicorn would take the first address, which the client chooses.
                    forwarded = [value.rpartition(b",")[2] for value in forwarded[-1:]]
                if sum(map(len, forwarded)) > _MAX_FORWARDED_BYTES:
                    forwarded = []
                others = [field for field in scope["headers"] if field[0] != _FORWARDED]
                scope["headers"] = others + [(_FORWARDED, value) for value in forwarded]
        await super().__call__(scope, receive, send)


def _forms(host: str) -> list[str]:
    """A host, and its form on a socket for both IPv4 and IPv6 (RFC 4291, 2.5.5.2)."""
    try:
        network = IPv4Network(host)
    except ValueError:  # an IPv6 network, or `*`
        return [host]
    return [host, f"::ffff:{network.network_address}/{96 + network.prefixlen}"]
