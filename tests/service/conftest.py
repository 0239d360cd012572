from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.settings import Settings


@pytest.fixture
def settings(stripe_model: Path) -> Settings:
    """Settings that serve the stripe model."""
    return Settings(model_path=stripe_model)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """A client of the running application."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client
