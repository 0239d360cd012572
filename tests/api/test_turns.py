"""How clients share the event loop."""

import asyncio
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
        await receive()
        self.went_on.append(scope["client"][0])

    def sent(self, client: str, is_gone: Callable[[], bool] = lambda: False) -> asyncio.Task[None]:
        """A request of this client, which waits for `bodies`."""

        async def receive() -> Message:
            await self.bodies.wait()
            return _BODY

        async def send(message: Message) -> None:
            """Nobody listens."""

        scope = {"type": "http", "client": (client, 1), "extensions": {CLIENT_GONE: is_gone}}
        return asyncio.create_task(self.turns(scope, receive, send))


def test_clients_take_turns() -> None:
    """Of a hundred requests of one client, few are begun before those of others."""

    async def check() -> None:
        app = Recorded()
        app.bodies.set()
        tasks = [app.sent("many") for _ in range(100)] + [app.sent("one"), app.sent("other")]
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        assert app.begun.index("one") < 10
        assert app.begun.index("other") < 10
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
        assert app.went_on.index("one") < 10
        assert len(app.went_on) == 101

    asyncio.run(check())


def test_who_has_gone_waits_for_no_turn() -> None:
    """Nor is it waited for: requests whose clients leave at once do not pile up."""

    async def check() -> None:
        app = Recorded()
        app.bodies.set()
        tasks = [app.sent("many", is_gone=lambda: True) for _ in range(100)]
        cancelled = app.sent("many")
        tasks.append(app.sent("many"))
        await asyncio.sleep(0)
        cancelled.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert all(task.done() for task in tasks)
        assert len(app.went_on) == 101

    asyncio.run(check())
