"""What is refused is freed at once, without the help of the garbage collector."""

import gc
import tracemalloc

import pytest
from fastapi.testclient import TestClient

from tests.api.bad_items import Request, bad_items

_BYTES = 1 << 20
_KINDS = dict(bad_items(_BYTES, "stripes"))


@pytest.mark.parametrize("request_", _KINDS.values(), ids=_KINDS.keys())
def test_refused_items_leave_nothing(request_: Request, client: TestClient) -> None:
    """Neither the picture, nor its text, nor the error that says what is wrong."""
    path, headers, body = request_

    def post() -> None:
        answer = client.post(path, headers=headers, content=body)
        assert "problem" in answer.text or "error" in answer.text

    post()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(4):
            post()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert kept < _BYTES
