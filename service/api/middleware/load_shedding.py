"""Refuses requests cheaply while more requests arrive than can be answered."""

from collections.abc import Iterable
from functools import cache

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.errors import ProblemError, ProblemResponse, problem_error
from service.api.handlers import Engine, caller_of
from service.runtime.batcher import OverloadedError


class LoadShedding:
    """ASGI middleware that refuses requests for pictures while the batcher would refuse them.

    The application would give the same answer, but takes twice as long for it. At ten times the
    load that can be served, refusals take most of the time. This middleware changes no answer: the
    application still reports all other errors of a request, in the same order.

    Args:
        routes: routes that read pictures. Their paths have no parameters.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[APIRoute]) -> None:
        self._app = app
        self._routes = {route.path: route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        app = self._app
        if scope["type"] == "http":
            app = self._refusal(scope) or app
        await app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ProblemResponse | None:
        route = self._routes.get(scope["path"])
        engine: Engine | None = getattr(scope["app"].state, "engine", None)
        if route is None or engine is None or scope["method"] != "POST":
            return None
        try:
            request = Request(scope)
            engine.authorize(request)
            engine.batcher.admit(caller_of(request))
        except ProblemError:
            return None
        except OverloadedError as error:
            engine.batcher.pause()
            scope["route"] = route  # for the log and the metrics
            return _response(error.retry_seconds)
        return None


@cache
def _response(retry_seconds: int) -> ProblemResponse:
    problem = problem_error(OverloadedError(retry_seconds))
    return ProblemResponse(problem.kind, problem.detail, problem.headers)
