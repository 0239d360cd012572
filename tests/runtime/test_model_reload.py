"""What happens to model files that replace the served one."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.ocr.exceptions import ModelCheckError, ModelFileError
from service.ocr.recognizer import Recognizer
from service.runtime.model_reload import watch
from service.runtime.predictor import FileState, Predictor, file_state, load_predictor
from service.settings import Settings
from tests import stripes
from tests.runtime.work import predictor_of
from tests.server.process import until


class Server:
    """Records the calls of `watch`."""

    def __init__(self) -> None:
        self.served: list[Predictor] = []
        self.reasons: list[str] = []

    def switch(self, predictor: Predictor) -> None:
        """Records the model."""
        self.served.append(predictor)

    def reload_failed(self, reason: str) -> None:
        """Records the reason."""
        self.reasons.append(reason)


async def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "error", [ModelFileError("not readable"), OSError("too many open files"), RuntimeError()]
)
def test_loading_is_tried_again_after_a_temporary_failure(
    error: Exception, recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is served once it can be read. The failure is reported once."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"new")
    server, left = Server(), [error] * 3

    def load(_: Settings) -> Predictor:
        if left:
            raise left.pop()
        return predictor_of(recognizer)

    monkeypatch.setattr("service.runtime.model_reload.load_predictor", load)
    settings = Settings(model_path=path, reload_seconds=0.01)

    async def test() -> None:
        watching = watch(settings, None, server.switch, server.reload_failed)
        task = asyncio.create_task(watching)
        await wait_until(lambda: bool(server.served))
        task.cancel()

    asyncio.run(asyncio.wait_for(test(), 30))
    assert len(server.reasons) == 1
    assert left == []


def test_a_wrong_model_is_tried_once(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried again until its file changes."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"new")
    server, tries, checks = Server(), 0, 0

    def counted(path: Path) -> FileState:
        nonlocal checks
        checks += 1
        return file_state(path)

    def load(_: Settings) -> Predictor:
        nonlocal tries
        tries += 1
        if path.stat().st_size == 3:
            raise ModelCheckError("reads wrongly")
        return predictor_of(recognizer)

    monkeypatch.setattr("service.runtime.model_reload.load_predictor", load)
    monkeypatch.setattr("service.runtime.model_reload.file_state", counted)
    settings = Settings(model_path=path, reload_seconds=0.01)

    async def test() -> None:
        watching = watch(settings, None, server.switch, server.reload_failed)
        task = asyncio.create_task(watching)
        await wait_until(lambda: bool(server.reasons))
        enough = checks + 5
        await wait_until(lambda: checks >= enough)
        assert tries == 1
        path.write_bytes(b"newer")
        await wait_until(lambda: bool(server.served))
        task.cancel()

    asyncio.run(asyncio.wait_for(test(), 30))
    assert (server.reasons, tries) == (["reads wrongly"], 2)


def test_workers_load_one_after_the_other(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To load two at once would take the memory of two more models."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"new")
    server = Server()
    loading = threading.Lock()

    def load(_: Settings) -> Predictor:
        assert loading.acquire(blocking=False)
        time.sleep(0.01)
        loading.release()
        return predictor_of(recognizer)

    monkeypatch.setattr("service.runtime.model_reload.load_predictor", load)
    settings = Settings(model_path=path, reload_seconds=0.01)

    async def test() -> None:
        watching = [watch(settings, None, server.switch, server.reload_failed) for _ in range(4)]
        tasks = [asyncio.create_task(one) for one in watching]
        await wait_until(lambda: len(server.served) == 4)
        for task in tasks:
            task.cancel()

    asyncio.run(asyncio.wait_for(test(), 30))
    assert server.reasons == []


def test_loading_that_hangs_is_reported_once(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported while it goes on. The other worker does not wait for it for ever."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"new")
    servers, loads, hang = [Server(), Server()], [0, 1], threading.Event()

    def load(_: Settings) -> Predictor:
        if loads.pop():
            hang.wait(60)
        return predictor_of(recognizer)

    monkeypatch.setattr("service.runtime.model_reload.load_predictor", load)
    settings = Settings(model_path=path, reload_seconds=0.01)

    async def test() -> None:
        tasks = [
            asyncio.create_task(watch(settings, None, one.switch, one.reload_failed, 1))
            for one in servers
        ]
        try:
            await wait_until(lambda: any(one.served for one in servers))
            (hanging,) = (one for one in servers if not one.served)
            await wait_until(lambda: bool(hanging.reasons))
        finally:
            hang.set()
        await wait_until(lambda: bool(hanging.served))
        assert hanging.reasons == ["the file has been loading for over 1 s"]
        for task in tasks:
            task.cancel()

    asyncio.run(asyncio.wait_for(test(), 30))


def test_a_file_is_served_as_soon_as_it_may_be_read(tmp_path: Path) -> None:
    """Even if the file itself does not change."""
    path = stripes.write_model(tmp_path / "model.onnx", version="first")
    settings = Settings(model_path=path, reload_seconds=0.02)
    with TestClient(create_app(settings)) as client:
        model = stripes.write_model(tmp_path / "next.onnx", version="second")
        opens = 0
        load = Recognizer.load

        def refused_at_first(*arguments: object, **options: object) -> Recognizer:
            nonlocal opens
            opens += 1
            if opens < 3:
                raise ModelFileError("permission denied")
            return load(*arguments, **options)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Recognizer, "load", refused_at_first)
            os.replace(model, path)  # noqa: PTH105
            state = file_state(path)
            until(lambda: client.get("/model").json()["version"] == "second", "the new model")
        assert opens == 3
        assert file_state(path) == state
        assert client.get("/info").json()["reload_error"] is None


@pytest.mark.parametrize("dangling", [False, True])
def test_the_old_model_answers_while_the_file_is_missing(
    dangling: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The missing file is reported once, until it is there again."""
    path, aside = tmp_path / "model.onnx", tmp_path / "aside.onnx"
    settings = Settings(model_path=stripes.write_model(path), reload_seconds=0.01)
    with TestClient(create_app(settings)) as client:

        def reload_error() -> str | None:
            return client.get("/info").json()["reload_error"]

        path.rename(aside)
        if dangling:
            path.symlink_to(tmp_path / "nothing")
        until(lambda: bool(reload_error()), "the error")
        error = reload_error()
        assert error == f"there is no model file at {path}."
        for _ in range(20):
            assert client.get("/model").json()["version"] == "1"
            assert reload_error()
        aside.replace(path)
        until(lambda: not reload_error(), "without the error")
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == [
        f"the new model file is not served; the old model stays: {error}"
    ]


def test_a_file_that_arrives_while_the_first_is_loaded_is_served(tmp_path: Path) -> None:
    """The state of the first file is noted before it is read, so that the second is new."""
    path = stripes.write_model(tmp_path / "model.onnx", version="first")
    settings = Settings(model_path=path, reload_seconds=0.02)
    predictor = load_predictor(settings)
    stripes.write_model(path, version="second")
    with TestClient(create_app(settings, predictor)) as client:
        until(lambda: client.get("/model").json()["version"] == "second", "the new model")
