"""Refuses cheaply, where more requests come than can be answered."""

from collections.abc import Iterable
from functools import cache

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.errors import ProblemError, ProblemResponse, problem_error
from service.api.handlers import Engine, network_of
from service.runtime.batcher import OverloadedError


class LoadShedding:
    """ASGI middleware that refuses requests for pictures while the batcher would refuse them.

    The application gives the same answer, but takes twice as long for it, and at ten times the load
    that can be served most of the time goes into refusals. So this changes no answer: whatever else
    is wrong with a request, the application says, in the order in which it looks.

    Args:
        routes: that read pictures, and have no parameters in their paths.
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
            engine.authorize(Request(scope))
            engine.batcher.admit(client=network_of(scope.get("client")))
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
