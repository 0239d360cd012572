"""How the service accepts connections that wait."""

import asyncio
import json
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service.server.main import accepting, listen
from tests.server.process import serving, until, workers_of
from tests.server.wire import received

uvloop = pytest.importorskip("uvloop")

WAITING = 64


def test_waiting_connections_are_accepted_several_at_a_time() -> None:
    """The event loop needs fewer iterations than there are connections: each may take 10 ms."""
    made = iterations = 0

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal made
            made += 1
            transport.abort()  # type: ignore[attr-defined]

    async def serve(sockets: list[socket.socket]) -> None:
        nonlocal iterations
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(Connection, sock=one) for one in sockets]
        while made < WAITING:
            iterations += 1
            await asyncio.sleep(0)
        for server in servers:
            server.close()

    with ExitStack() as stack:
        listening = accepting(listen("127.0.0.1", 0), max_connections=512)
        sockets = [stack.enter_context(one) for one in listening]
        for _ in range(WAITING):
            stack.enter_context(socket.create_connection(sockets[0].getsockname(), timeout=20))
        uvloop.run(asyncio.wait_for(serve(sockets), 60))
    assert iterations < WAITING / 2


def test_workers_share_connections(stripe_model: Path) -> None:
    """Even of connections opened at the same time, neither of two workers takes nearly all."""
    request = b"GET /info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with serving(model_path=stripe_model, workers=2) as address:
        where = urlsplit(address)
        until(lambda: len(workers_of(address)) == 2, "both workers answer")

        def smaller_share() -> int:
            processes = Counter[int]()
            with ExitStack() as stack:
                connections = [stack.enter_context(socket.socket()) for _ in range(16)]
                for connection in connections:
                    connection.setblocking(False)
                    connection.connect_ex((where.hostname, where.port))
                for connection in connections:
                    connection.settimeout(30)
                    connection.sendall(request)
                for connection in connections:
                    _, _, body = received(connection).partition(b"\r\n\r\n")
                    processes[json.loads(body)["process"]] += 1
            return 16 - max(processes.values())

        assert sum(smaller_share() for _ in range(20)) >= 30
