from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import training  # noqa: F401  # configures TensorFlow before a test imports it
from service.api.app import create_app
from service.ocr.recognizer import Recognizer
from service.settings import Settings
from tests import stripes


@pytest.fixture
def stripe_model(tmp_path: Path) -> Path:
    """The file of a small real model that reads gray stripes; see `tests.stripes`."""
    return stripes.write_model(tmp_path / "stripes.onnx")


@pytest.fixture
def recognizer(stripe_model: Path) -> Recognizer:
    """A recognizer over the stripe model."""
    return Recognizer.load(stripe_model)


@pytest.fixture
def settings(stripe_model: Path) -> Settings:
    """Settings that serve the stripe model with two threads, whatever the number of cores."""
    return Settings(model_path=stripe_model, threads=2)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """A client of the running application."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client
