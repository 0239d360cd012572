import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import stripes
from tests.client.scripted import ScriptedServer
from tests.server.process import serving


@pytest.fixture
def scripted() -> Iterator[Callable[..., tuple[str, ScriptedServer]]]:
    """Starts servers that give scripted answers."""
    servers = []

    def start(*answers: tuple[int, dict[str, str], Any]) -> tuple[str, ScriptedServer]:
        server = ScriptedServer(*answers)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        return f"http://127.0.0.1:{server.server_port}", server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real service with the stripe model."""
    model = stripes.write_model(tmp_path_factory.mktemp("model") / "stripes.onnx")
    with serving(model_path=model) as address:
        yield address
