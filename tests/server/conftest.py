from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests import stripes
from tests.server.process import serving
from tests.server.wire import SECONDS


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Host and port of a service with short timeouts."""
    model = stripes.write_model(tmp_path_factory.mktemp("model") / "stripes.onnx")
    with serving(
        model_path=model,
        request_seconds=SECONDS,
        keep_alive_seconds=3 * SECONDS,
        max_header_bytes=2048,
        api_keys="secret",
    ) as url:
        yield urlsplit(url).hostname or "", urlsplit(url).port or 0
