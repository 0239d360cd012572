"""Counts and logs every request, outside of everything that may answer it."""

import logging
import random
import re
import time
from collections.abc import Container
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import INTERNAL_ERROR, REASON, REQUEST_ID
from service.api.middleware.bodiless import asked_method
from service.observability.metrics import Metrics
from service.observability.request_timing import TIMELINE, Timeline
from service.observability.tracing import Answered, Traces

HEADER = b"x-request-id"
_SOUND = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_ELSEWHERE = "other"
"""The route of what no route answers; the path itself is the client's to make up."""

logger = logging.getLogger("service.access")


class Observed:
    """ASGI middleware: an id, a line in the log and a count for every request.

    A request's `X-Request-ID` is kept if it is sound (at most 128 letters, digits and `._:/+=@-`);
    another one gets an id made up. The line never holds the query, a name of a file or a key.

    Args:
        hot: paths that are routes, without a search for it.
        logs: whether there is a line.
        traces: where there are any; the line then has the trace's id.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        hot: Container[str],
        logs: bool,
        traces: Traces | None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._hot = hot
        self._logs = logs
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        timeline = scope[TIMELINE] = Timeline()
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        request_id = given if _SOUND.fullmatch(given) else b"%016x" % random.getrandbits(64)
        scope[REQUEST_ID] = request_id.decode()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id)]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception:
            # Answered further outside.
            status = INTERNAL_ERROR.status
            scope[REASON] = INTERNAL_ERROR.name
            raise
        finally:
            ended = time.perf_counter()
            self._metrics.afterwards.add(lambda: self._observe(scope, status, timeline, ended))

    def _observe(self, scope: Scope, status: int, timeline: Timeline, ended: float) -> None:
        path = scope["path"]
        if path not in self._hot:
            path = getattr(scope.get("route"), "path", _ELSEWHERE)
        reason = scope.get(REASON, "")
        if not reason and status >= HTTPStatus.BAD_REQUEST:
            reason = HTTPStatus(status).phrase.lower().replace(" ", "-")
        seconds = ended - timeline.began
        self._metrics.answered(path, status, reason, seconds)
        self._metrics.went_by(timeline, ended)
        version = timeline.model_version or _served_version(scope)
        traced = {}
        if self._traces is not None:
            route = "" if path == _ELSEWHERE else path
            answer = Answered(route, status, reason, version)
            traced["trace_id"] = self._traces.answered(scope, timeline, ended, answer)
        if self._logs and logger.isEnabledFor(logging.INFO):
            method = asked_method(scope)
            fields = {
                "request_id": scope[REQUEST_ID],
                **traced,
                "method": method,
                "route": path,
                "status": status,
                "reason": reason,
                "ms": round(1000 * seconds, 1),
                "model_version": version,
            }
            line = (method, path, status, 1000 * seconds)
            record = logger.makeRecord(
                logger.name,
                logging.INFO,
                "",
                0,
                "%s %s %d %.1f ms",
                line,
                None,
                None,
                {"fields": fields},
            )
            record.created -= time.perf_counter() - ended
            logger.handle(record)


def _served_version(scope: Scope) -> str | None:
    engine: Any = getattr(scope["app"].state, "engine", None)
    return engine.reader.recognizer.metadata.version if engine else None
