"""Over real processes: how a service changes its model, and ends."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests import stripes
from tests.service.server import address_of, serving, start, wait

ROOT = Path(__file__).parents[2]
PNG = {"content-type": "image/png"}


def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


def info(address: str) -> dict[str, object]:
    return httpx2.get(f"{address}/info").json()


def version(address: str) -> str:
    answer = httpx2.post(f"{address}/predict", content=stripes.picture("ab"), headers=PNG)
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"] == "ab"
    return answer.json()["model"]["version"]


def replace(path: Path, **changes: object) -> None:
    """Puts another model in place as an export does, at once."""
    stripes.write_model(path.with_suffix(".new"), **changes).replace(path)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_new_model_is_served_without_a_gap(workers: int, tmp_path: Path) -> None:
    """Requests that never cease are all answered, first by the old model and then by the new."""
    model = stripes.write_model(tmp_path / "model.onnx")
    with serving(model_path=model, reload_seconds=0.1, workers=workers) as address:
        seen: list[str] = []
        stop = threading.Event()
        errors: list[BaseException] = []

        def ask() -> None:
            while not stop.is_set():
                try:
                    seen.append(version(address))
                except BaseException as error:
                    errors.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: "1" in seen, "the old model answers")
        replace(model, version="2")
        until(lambda: seen[-10:] == ["2"] * 10, "the new model answers alone")
        stop.set()
        asking.join()
        assert errors == []


def test_a_bad_model_leaves_the_old_one(tmp_path: Path) -> None:
    """What cannot be loaded, or reads wrongly, is reported and not served; a good one then is."""
    model = stripes.write_model(tmp_path / "model.onnx")
    with serving(model_path=model, reload_seconds=0.1) as address:
        model.write_bytes(model.read_bytes()[:-100])
        until(lambda: "cannot be loaded" in str(info(address)["reload_error"]), "cut short")
        assert version(address) == "1"
        golden = stripes.metadata().golden[0]
        wrong = type(golden)(golden.data, "dd")
        replace(model, version="2", golden=(wrong,))
        until(lambda: "golden" in str(info(address)["reload_error"]), "reads wrongly")
        assert version(address) == "1"
        model.unlink()
        time.sleep(0.3)
        assert version(address) == "1"
        replace(model, version="3")
        until(lambda: version(address) == "3", "a good model")
        assert info(address)["reload_error"] is None
        assert info(address)["reloads"] == 1


def test_ready_ends_before_the_service_does(stripe_model: Path) -> None:
    """After a SIGTERM requests are still answered, but ready is not, and connections close."""
    process = start(port=0, model_path=stripe_model, drain_seconds=2)
    try:
        address = address_of(process)
        wait(address)
        with httpx2.Client() as client:
            client.get(f"{address}/health/live")
            process.send_signal(signal.SIGTERM)
            until(lambda: client.get(f"{address}/health/ready").status_code == 503, "not ready")
            answer = client.post(f"{address}/predict", content=stripes.picture("a"), headers=PNG)
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        process.kill()


def test_a_thread_in_the_midst_of_the_model_does_not_crash_the_end() -> None:
    """Python ends such a thread where it stands, in C++ that then aborts the process."""
    code = """
import signal, sys, threading, time
import numpy as np
from pathlib import Path
from service.ocr.recognizer import Recognizer
from service.server.main import _end

recognizer = Recognizer.load(Path("models/captcha.onnx"))
tensors = np.zeros((4, recognizer.metadata.width, recognizer.metadata.height, 1), np.float32)

def read():
    while True:
        recognizer.infer(tensors)

threading.Thread(target=read, daemon=True).start()
time.sleep(0.1)
print("ends", end="")
_end(signal.SIGTERM, None)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"ends", b"")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stuck_upload_does_not_hold_up_the_end(workers: int, stripe_model: Path) -> None:
    """A request that never arrives delays the end by no more than its deadline."""
    process = start(port=0, model_path=stripe_model, workers=workers, request_seconds=2)
    try:
        address = address_of(process)
        wait(address)
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            connection.sendall(head + b"Content-Length: 1000\r\n\r\nabc")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        process.kill()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_is_lost_is_replaced(how: signal.Signals, stripe_model: Path) -> None:
    """One of two workers is killed, or hangs; the other goes on, and there are soon two again."""
    with serving(model_path=stripe_model, workers=2) as address:
        before = workers_of(address)
        os.kill(min(before), how)

        def replaced() -> bool:
            try:
                return len(now := workers_of(address)) == 2 and min(before) not in now
            except httpx2.TransportError:
                return False  # the connection was in the hands of the one that is lost

        until(replaced, "two workers again")
        assert version(address) == "1"


def workers_of(address: str) -> set[int]:
    """Process ids of the workers that answer within a number of connections."""
    found = set()
    for _ in range(30):
        try:
            found.add(int(httpx2.get(f"{address}/info", timeout=1).json()["process"]))
        except httpx2.TimeoutException:
            continue
    return found
