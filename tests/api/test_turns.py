"""How clients share the event loop."""

import asyncio
import itertools
from collections.abc import Callable

from starlette.types import Message, Receive, Scope, Send

from service.api.handlers import CLIENT_GONE
from service.api.middleware.load_shedding import Turns

_BODY: Message = {"type": "http.request", "body": b"", "more_body": False}


class Recorded:
    """An application that receives a body, and records when it has begun and gone on, by client."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.went_on: list[str] = []
        self.turns = Turns(self)
        self.bodies = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follows the ASGI specification, version 3."""
        self.begun.append(scope["client"][0])
        if await receive() == _BODY:
            self.went_on.append(scope["client"][0])

    def sent(self, client: str, is_gone: Callable[[], bool] = lambda: False) -> asyncio.Task[None]:
        """A request of this client, which waits for `bodies`."""

        async def receive() -> Message:
            await self.bodies.wait()
            return _BODY

        async def send(message: Message) -> None:
            """Nobody listens."""

        extensions = {CLIENT_GONE: is_gone}
        scope = {"type": "http", "path": "/", "client": (client, 1), "extensions": extensions}
        return asyncio.create_task(self.turns(scope, receive, send))


def test_clients_take_turns() -> None:
    """Of a hundred requests of one client, few are begun before those of others."""

    async def check() -> None:
        app = Recorded()
        app.bodies.set()
        tasks = [app.sent("many") for _ in range(100)] + [app.sent("one"), app.sent("other")]
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        assert app.begun.index("one") < 40
        assert app.begun.index("other") < 40
        assert len(app.went_on) == 102

    asyncio.run(check())


def test_clients_take_turns_when_bodies_have_arrived() -> None:
    """Also where they arrive at the same time, long after requests were begun."""

    async def check() -> None:
        app = Recorded()
        tasks = [app.sent("many") for _ in range(100)] + [app.sent("one")]
        while len(app.begun) < 101:
            await asyncio.sleep(0)
        assert app.went_on == []
        app.bodies.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        assert app.went_on.index("one") < 40
        assert len(app.went_on) == 101

    asyncio.run(check())


def test_who_has_gone_is_ended_soon() -> None:
    """Requests whose clients leave at once do not pile up, nor are all ended at the same time."""

    async def check() -> None:
        app = Recorded()
        app.bodies.set()
        tasks = [app.sent("many", is_gone=lambda: True) for _ in range(1000)]
        cancelled = app.sent("many")
        tasks.append(app.sent("many"))
        await asyncio.sleep(0)
        cancelled.cancel()
        ended = [0]
        while ended[-1] < len(tasks):
            await asyncio.sleep(0)
            ended.append(sum(task.done() for task in tasks))
        assert len(ended) < 10
        assert max(b - a for a, b in itertools.pairwise(ended)) < 500
        assert app.went_on == ["many"]

    asyncio.run(check())


def test_what_is_sent_by_who_has_gone_is_not_taken_apart() -> None:
    """All of them go on at once, so that their bodies would hold up the event loop for seconds."""

    async def check() -> None:
        app = Recorded()
        gone = asyncio.Event()
        tasks = [app.sent("many", gone.is_set) for _ in range(100)]
        while len(app.begun) < 100:
            await asyncio.sleep(0)
        app.bodies.set()
        while not app.went_on:
            await asyncio.sleep(0)
        gone.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        assert len(app.went_on) < 80

    asyncio.run(check())
