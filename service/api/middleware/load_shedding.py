"""Keeps the event loop free for others, where more requests come than it can answer."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from functools import cache

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import ProblemError, ProblemResponse, problem_error
from service.api.handlers import Engine, is_gone, network_of
from service.runtime.batcher import ClientGoneError, OverloadedError

_AT_ONCE = 32
"""Requests of a client each time that the event loop comes round. With more, others wait longer."""

_GONE_SHARE = 1 / 8
"""Of such a request, which one counts as whose client has gone: it is only to be refused."""


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


class Turns:
    """ASGI middleware in which clients take turns on the event loop.

    To take a form apart, say, holds up all other requests for some milliseconds. Each time that the
    event loop comes round, it begins a few requests of each client, and goes on with a few whose
    bodies have arrived; the others wait. So it holds up others no longer for hundreds of
    connections than for these few.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._round = 0
        self._begun: defaultdict[str, float] = defaultdict(float)
        """How many requests of each client this round has."""
        self._waiting: dict[str, deque[tuple[asyncio.Future[None], Callable[[], bool]]]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        gone = is_gone(Request(scope))
        await self._turn(scope, gone)
        if gone():
            problem = problem_error(ClientGoneError())
            await ProblemResponse(problem.kind, problem.detail)(scope, receive, send)
            return
        begun_in = self._round

        async def receive_in_turn() -> Message:
            message = await receive()
            if not message.get("more_body", False) and self._round != begun_in:
                await self._turn(scope, gone)
                if gone():
                    return {"type": "http.disconnect"}
            return message

        await self._app(scope, receive_in_turn, send)

    async def _turn(self, scope: Scope, gone: Callable[[], bool]) -> None:
        """Waits until there is room for one more request of its client in a round.

        One whose client has gone is not to go on.
        """
        client = network_of(scope.get("client"))
        if self._begun.get(client, 0) < _AT_ONCE:
            self._begin(client)
            return
        future = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(client, deque())
        waiting.append((future, gone))
        await future

    def _begin(self, client: str, share: float = 1) -> None:
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._next_round)
        self._begun[client] += share

    def _next_round(self) -> None:
        self._round += 1
        self._begun.clear()
        for client, waiting in [*self._waiting.items()]:
            while waiting and self._begun.get(client, 0) < _AT_ONCE:
                future, gone = waiting.popleft()
                if not future.done():  # or else it was cancelled
                    future.set_result(None)
                    # Those whose clients have gone are ended several at a time, or they might
                    # become many; all at once, hundreds would hold up the event loop.
                    self._begin(client, _GONE_SHARE if gone() else 1)
            if not waiting:
                del self._waiting[client]
