from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.settings import Settings
from tests import stripes
from tests.service.server import serving
from tests.service.wire import SECONDS


@pytest.fixture
def settings(stripe_model: Path) -> Settings:
    """Settings that serve the stripe model, in two threads wherever the tests run."""
    return Settings(model_path=stripe_model, threads=2)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """A client of the running application."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Where a service with short deadlines listens."""
    model = stripes.write_model(tmp_path_factory.mktemp("model") / "stripes.onnx")
    with serving(
        model_path=model, request_seconds=SECONDS, max_header_bytes=2048, api_keys="secret"
    ) as url:
        yield urlsplit(url).hostname or "", urlsplit(url).port or 0
