from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import stripes
from tests.server.process import serving
from tests.server.wire import SECONDS

Address = tuple[str, int]
LIMITS = {"max_header_bytes": 2048, "api_keys": "secret"}


@contextmanager
def _serving(folder: Path, **settings: float) -> Iterator[Address]:
    model = stripes.write_model(folder / "stripes.onnx")
    with serving(model_path=model, **LIMITS, **settings) as url:
        yield urlsplit(url).hostname or "", urlsplit(url).port or 0


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Host and port of a service with short timeouts."""
    timeouts = {"request_seconds": SECONDS, "keep_alive_seconds": 3 * SECONDS}
    with _serving(tmp_path_factory.mktemp("model"), **timeouts) as address:
        yield address


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """As `address`, with timeouts that no test reaches."""
    with _serving(tmp_path_factory.mktemp("model"), request_seconds=60) as address:
        yield address
