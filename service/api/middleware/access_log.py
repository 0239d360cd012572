"""Gives every request an id, counts it and logs it, also if other middleware refuses it."""

import asyncio
import logging
import random
import re
import time
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.auth import KEY_NAME
from service.api.errors import INTERNAL_ERROR, OVERLOADED, REASON, REQUEST_ID
from service.observability.metrics import Metrics
from service.observability.request_timing import NO_ROUTE, REQUEST_TIMING, RequestTiming
from service.observability.tracing import Traces

_HEADER = b"x-request-id"
_VALID_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_VALID_ADDRESS = re.compile("[A-Za-z0-9._:%-]{1,64}")
_REFUSALS_LOGGED = 10
"""Most lines per second for requests that are refused because of overload."""

logger = logging.getLogger("service.access")


class AccessLog:
    """ASGI middleware: an id, a line in the log, metrics and a trace for every request.

    A request's `X-Request-ID` is kept if it is valid (at most 128 letters, digits and
    `._:/+=@-`); any other request gets a new id. The line contains the client's address and the
    name of its API key, but never a query, file name or key. Of the requests that are refused
    because of overload in a second, the first ten get a line each, and the others one line
    together.

    Args:
        logs: whether requests are logged.
        traces: exports traces; the line then contains the trace's id. None: no traces.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, logs: bool, traces: Traces | None) -> None:
        self._app = app
        self._metrics = metrics
        self._logs = logs
        self._traces = traces
        self._refusals = 0
        """Requests refused because of overload in this second."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        timing = scope[REQUEST_TIMING] = RequestTiming()
        given = next((value for name, value in scope["headers"] if name == _HEADER), b"")
        request_id = given if _VALID_ID.fullmatch(given) else b"%016x" % random.getrandbits(64)
        scope[REQUEST_ID] = request_id.decode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                timing.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (_HEADER, request_id)]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            # Outer middleware answers with status 500.
            timing.status = INTERNAL_ERROR.status
            scope[REASON] = INTERNAL_ERROR.name
            raise
        finally:
            self._record(scope, timing)

    def _record(self, scope: Scope, timing: RequestTiming) -> None:
        timing.ended = time.perf_counter()
        timing.route = getattr(scope.get("route"), "path", NO_ROUTE)
        timing.reason = scope.get(REASON, "")
        if not timing.reason and timing.status >= HTTPStatus.BAD_REQUEST:
            timing.reason = HTTPStatus(timing.status).phrase.lower().replace(" ", "-")
        timing.model_version = timing.model_version or _served_version(scope)
        key = scope.get(KEY_NAME, "")
        self._metrics.answered(timing)
        if key:
            self._metrics.key_answered(key, timing.status)
        trace = {}
        if self._traces is not None:
            trace["trace_id"] = self._traces.answered(scope, timing)
        if not self._logs or not logger.isEnabledFor(logging.INFO):
            return
        if timing.reason != OVERLOADED.name or self._logs_refusal():
            ms = 1000 * (timing.ended - timing.began)
            method = scope["method"]
            fields = {
                "request_id": scope[REQUEST_ID],
                **trace,
                "method": method,
                "route": timing.route,
                "status": timing.status,
                "reason": timing.reason,
                "ms": round(ms, 1),
                "client": _client_address(scope),
                "key": key,
                "model_version": timing.model_version,
            }
            # Not by `logger.info`, which looks up the calling line of code: it is always this line.
            values = (method, timing.route, timing.status, ms)
            record = logger.makeRecord(
                logger.name, logging.INFO, "", 0, "%s %s %d %.1f ms", values, None
            )
            record.fields = fields
            logger.handle(record)

    def _logs_refusal(self) -> bool:
        """Counts a refusal; true if it gets a line of its own."""
        self._refusals += 1
        if self._refusals == 1:
            asyncio.get_running_loop().call_later(1, self._sum_up)
        return self._refusals <= _REFUSALS_LOGGED

    def _sum_up(self) -> None:
        more, self._refusals = self._refusals - _REFUSALS_LOGGED, 0
        if more > 0:
            logger.warning("%d more requests were refused in a second: %s", more, OVERLOADED.name)


def _client_address(scope: Scope) -> str:
    """The client's address; empty for a Unix socket, or if a proxy sends an invalid address."""
    client = scope.get("client")
    address = client[0] if client else ""
    return address if _VALID_ADDRESS.fullmatch(address) else ""


def _served_version(scope: Scope) -> str | None:
    engine: Any = getattr(scope["app"].state, "engine", None) if "app" in scope else None
    return engine.predictor.metadata.version if engine else None
