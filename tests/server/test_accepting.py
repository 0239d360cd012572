"""How connections are accepted that wait."""

import asyncio
import os
import socket
from contextlib import ExitStack

import pytest

from service.server.main import listen
from service.server.worker import accepting

uvloop = pytest.importorskip("uvloop")

WAITING = 64


def test_connections_that_wait_are_accepted_together() -> None:
    """The event loop comes round fewer times than there are of them: each may take 10 ms."""
    made = rounds = 0

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal made
            made += 1
            transport.abort()  # type: ignore[attr-defined]

    async def serve(sockets: list[socket.socket]) -> None:
        nonlocal rounds
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(Connection, sock=one) for one in sockets]
        while made < WAITING:
            rounds += 1
            await asyncio.sleep(0)
        for server in servers:
            server.close()

    with ExitStack() as stack:
        listening = accepting(listen("127.0.0.1", 0), max_connections=512)
        sockets = [stack.enter_context(one) for one in listening]
        for _ in range(WAITING):
            stack.enter_context(socket.create_connection(sockets[0].getsockname(), timeout=20))
        uvloop.run(asyncio.wait_for(serve(sockets), 60))
    assert rounds < WAITING / 2


def test_copies_do_not_stop_other_workers() -> None:
    """Who accepts from the same sockets already still does not wait for connections."""
    with ExitStack() as stack:
        (shared,) = listen("127.0.0.1", 0)
        # As a worker gets it, which knows nothing of what others have set.
        received = socket.socket(fileno=os.dup(shared.fileno()))
        os.set_blocking(shared.fileno(), False)
        for one in [shared, *accepting([received], max_connections=512)]:
            stack.enter_context(one)
        assert not os.get_blocking(shared.fileno())
