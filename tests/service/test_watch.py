"""What becomes of model files that replace the one that is served."""

import asyncio
import os
from pathlib import Path
from unittest.mock import Mock

from fastapi.testclient import TestClient

from service.api.app import create_app
from service.runtime.model_reload import stamp_of, watch
from service.runtime.predictor import load_recognizer
from service.settings import Settings
from tests import stripes


def test_a_reload_that_fails_in_any_way(tmp_path: Path) -> None:
    """The next file is looked at all the same."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"0")
    engine, tries = Mock(), [RuntimeError("no thread"), "a model"]

    async def test() -> None:
        task = asyncio.create_task(
            watch(engine, path, 0.01, Mock(side_effect=tries), stamp_of(path))
        )
        for number in (1, 2):
            await asyncio.sleep(0.05)
            path.write_bytes(b"0" * (number + 1))
            os.utime(path, ns=(number, number))
            while engine.metrics.reload_failed.call_count + engine.switch.call_count < number:
                await asyncio.sleep(0.01)
            assert engine.reload_error == ("no thread" if number == 1 else None)
        task.cancel()

    asyncio.run(asyncio.wait_for(test(), 30))
    engine.switch.assert_called_once_with("a model")


def test_a_file_that_comes_while_the_first_is_loaded(tmp_path: Path) -> None:
    """It is served, too: what was there before the first was read is what counts as served."""
    path = stripes.write_model(tmp_path / "model.onnx", version="first")
    settings = Settings(model_path=path, reload_seconds=0.02)
    stamp, recognizer = stamp_of(path), load_recognizer(settings)
    stripes.write_model(path, version="second")
    with TestClient(create_app(settings, lambda: recognizer, stamp)) as client:
        for _ in range(500):
            if client.get("/model").json()["version"] == "second":
                break
        assert client.get("/model").json()["version"] == "second"
