"""Over real processes: how a service changes its model, loses workers, and ends."""

import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from uvicorn.config import STARTUP_FAILURE

from tests import stripes
from tests.server.process import (
    address_of,
    fails_to_start,
    lines_until,
    metric,
    replace,
    serving,
    start,
    until,
    version,
    wait,
    workers_of,
)

PNG = {"content-type": "image/png"}
SLOW_START = """
import sys, time
if "multiprocessing.spawn" in " ".join(sys.orig_argv):
    time.sleep({seconds})
"""

FAILED_START = """
import os, sys
if "multiprocessing.spawn" in " ".join(sys.orig_argv):
    try:
        os.mkdir({first!r})
    except FileExistsError:
        pass
    else:
        os._exit({status})
"""
"""The first worker fails to start before the second can be ready."""

STUCK = """
import ctypes, os, signal
def stick(*_):
    os.write(2, b"stuck\\n")
    mutex, library = ctypes.create_string_buffer(64), ctypes.PyDLL(None)
    while True:
        library.pthread_mutex_lock(mutex)
signal.signal(signal.SIGRTMIN, stick)
"""
"""At a signal, a process waits for ever in C code, and no thread of its Python runs."""


def info(address: str) -> dict[str, object]:
    return httpx2.get(f"{address}/info").json()


def slow_start(folder: Path, seconds: float) -> dict[str, str]:
    """An environment in which it takes so long until a worker's first line of code is run."""
    (folder / "sitecustomize.py").write_text(SLOW_START.format(seconds=seconds))
    return {"PYTHONPATH": str(folder)}


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
        replace(model, version="3")
        until(lambda: version(address) == "3", "a good model")
        assert info(address)["reload_error"] is None
        assert info(address)["reloads"] == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_ready_ends_before_the_service_does(workers: int, stripe_model: Path) -> None:
    """After a SIGTERM requests are still answered, but ready is not, and connections close."""
    process = start(port=0, model_path=stripe_model, drain_seconds=3, workers=workers)
    try:
        address = address_of(process)
        wait(address)
        until(lambda: metric(address, "workers") == workers, "all workers")
        with httpx2.Client() as client:
            client.get(f"{address}/health/live")
            process.send_signal(signal.SIGTERM)
            until(lambda: client.get(f"{address}/health/ready").status_code == 503, "not ready")
            answer = client.post(f"{address}/predict", content=stripes.picture("a"), headers=PNG)
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_lost_at_the_end(workers: int, stripe_model: Path) -> None:
    """Clients that ask on and on, and heed what they are told, get all of their answers."""
    process = start(port=0, model_path=stripe_model, workers=workers)
    try:
        address = address_of(process)
        wait(address)
        asked, answered = [0] * 4, [0] * 4
        ended = threading.Event()

        def ask(number: int) -> None:
            while not ended.is_set():
                with httpx2.Client(base_url=address) as client:
                    while not ended.is_set():
                        asked[number] += 1
                        answer = client.get("/health/live")
                        answered[number] += answer.status_code == 200
                        if answer.headers.get("connection") == "close":
                            return

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: all(count > 20 for count in answered), "answers")
        process.terminate()
        for thread in threads:
            thread.join(30)
        ended.set()
        assert answered == asked
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stuck_upload_does_not_hold_up_the_end(workers: int, stripe_model: Path) -> None:
    """A request that never arrives delays the end by no more than its time."""
    process = start(port=0, model_path=stripe_model, workers=workers, request_seconds=2)
    try:
        address = address_of(process)
        wait(address)
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            connection.sendall(head + b"Content-Length: 1000\r\n\r\nabc")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()


@pytest.mark.parametrize("workers", [1, 2])
def test_signals_that_mean_nothing(workers: int, stripe_model: Path) -> None:
    """SIGHUP, SIGUSR1 and SIGUSR2 end neither the service nor a worker."""
    with serving(model_path=stripe_model, workers=workers) as address:
        until(lambda: metric(address, "workers") == workers, "all workers")
        before = workers_of(address)
        parents = {int(Path(f"/proc/{one}/stat").read_text().split()[3]) for one in before}
        for process in before | (parents if workers > 1 else set()):
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                os.kill(process, number)
        assert version(address) == "1"
        assert workers_of(address) == before
        assert metric(address, "worker_starts_total") == workers


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (signal.SIGKILL, "was killed by SIGKILL"),
        (signal.SIGBUS, "was killed by SIGBUS"),
        (signal.SIGRTMIN + 6, f"was killed by signal {signal.SIGRTMIN + 6}"),
        (signal.SIGSTOP, "did not respond"),
    ],
)
def test_a_worker_that_is_lost_is_replaced(how: int, reason: str, stripe_model: Path) -> None:
    """One of two workers dies, or hangs; the other goes on, there are soon two again, the log says
    why, and what it has counted is not lost.
    """
    process = start(port=0, model_path=stripe_model, workers=2, worker_timeout_seconds=4)
    try:
        address = address_of(process)
        wait(address)
        until(lambda: metric(address, "workers") == 2, "two workers")
        for _ in range(20):
            version(address)
        until(lambda: metric(address, "confidence_count") == 20, "all counted")
        lost = min(workers_of(address))
        os.kill(lost, how)
        assert f"[{lost}] {reason}" in lines_until(process, f"worker [{lost}]")
        until(lambda: metric(address, "worker_starts_total") == 3, "a third")
        until(lambda: metric(address, "workers") == 2, "two again")
        assert metric(address, "confidence_count") == 20
        assert lost not in workers_of(address)
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()


def test_a_worker_that_cannot_be_started_is_started_later(stripe_model: Path) -> None:
    """The system allows no more processes, for a while; the other worker goes on."""
    code = """
from multiprocessing.context import SpawnProcess
from service.server.main import main

start, starts = SpawnProcess.start, []

def bounded(process):
    starts.append(process)
    if len(starts) == 3:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    start(process)

SpawnProcess.start = bounded
raise SystemExit(main())
"""
    process = start(code, port=0, model_path=stripe_model, workers=2)
    try:
        address = address_of(process)
        wait(address)
        until(lambda: metric(address, "workers") == 2, "two workers")
        os.kill(min(workers_of(address)), signal.SIGKILL)
        assert "temporarily unavailable" in lines_until(process, "no worker can be started")
        version(address)
        until(lambda: metric(address, "workers") == 2, "two again")
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()


def test_counters_never_go_back(stripe_model: Path) -> None:
    """Without those of the other workers, there are none."""
    process = start(port=0, model_path=stripe_model, workers=2)
    try:
        address = address_of(process)
        wait(address)
        until(lambda: metric(address, "workers") == 2, "two workers")
        process.send_signal(signal.SIGSTOP)
        answer = httpx2.get(f"{address}/metrics", timeout=30)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/metrics-incomplete")
        process.send_signal(signal.SIGCONT)
        until(lambda: httpx2.get(f"{address}/metrics").status_code == 200, "metrics again")
        process.terminate()
        process.communicate(timeout=60)
    finally:
        process.kill()


def test_workers_may_start_slowly(stripe_model: Path, tmp_path: Path) -> None:
    """A machine on which a worker's imports take long is no reason to start it again."""
    environment = slow_start(tmp_path, 7)
    with serving(model_path=stripe_model, workers=2, environment=environment) as address:
        starts = []

        def all_count() -> bool:
            starts.append(metric(address, "worker_starts_total"))
            return metric(address, "workers") == 2 == starts[-1]

        until(all_count, "two workers")
        assert not any(count > 2 for count in starts)


def test_a_worker_that_does_not_start_is_replaced(stripe_model: Path, tmp_path: Path) -> None:
    """After the time of the setting, which the log names."""
    environment = slow_start(tmp_path, 60)
    process = start(
        port=0, model_path=stripe_model, workers=2, worker_start_seconds=5, environment=environment
    )
    try:
        output = lines_until(process, "was not ready")
        assert "was not ready within OCR_WORKER_START_SECONDS=5" in output
        lines_until(process, "another worker starts in")
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_workers_that_cannot_start_end_the_service(stripe_model: Path) -> None:
    """Where only the workers cannot load the model, the whole service still ends, not with 0."""
    # The model vanishes between the check before the start and the workers' own loading.
    code = (
        "import sys, service.server.main as main; listen = main.listen;"
        "main.listen = lambda h, p: (main.Settings().model_path.unlink(), listen(h, p))[1];"
        "sys.exit(main.main())"
    )
    status, output = fails_to_start(code=code, model_path=stripe_model, workers=2)
    assert status != 0, output


def test_one_worker_that_cannot_start(stripe_model: Path, tmp_path: Path) -> None:
    """The service goes on: the other worker is still loading the model, and will serve it."""
    code = FAILED_START.format(first=str(tmp_path / "first"), status=STARTUP_FAILURE)
    (tmp_path / "sitecustomize.py").write_text(code)
    environment = {"PYTHONPATH": str(tmp_path)}
    with serving(model_path=stripe_model, workers=2, environment=environment) as address:
        until(lambda: metric(address, "workers") == 2, "two workers")
        assert metric(address, "worker_starts_total") == 2


def test_no_worker_is_left(stripe_model: Path) -> None:
    """One that dies while the model file is broken is missed; with the last one the service ends,
    so that no client waits for an answer that nobody gives.
    """
    process = start(port=0, model_path=stripe_model, workers=2, reload_seconds=0.1)
    try:
        address = address_of(process)
        wait(address)
        until(lambda: metric(address, "workers") == 2, "two workers")
        first, last = workers_of(address)
        stripe_model.with_suffix(".new").write_bytes(b"broken")
        stripe_model.with_suffix(".new").replace(stripe_model)
        os.kill(first, signal.SIGKILL)
        lines_until(process, "has exited with status")
        assert version(address) == "1"
        os.kill(last, signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
        assert process.returncode != 0, output
        assert "no worker can start: the service ends" in output
    finally:
        process.kill()
        process.communicate()


def test_workers_end_with_their_parent(stripe_model: Path) -> None:
    """However it ends: they neither answer on nor keep the port."""
    process = start(port=0, model_path=stripe_model, workers=2)
    try:
        address = address_of(process)
        wait(address)
        until(lambda: metric(address, "workers") == 2, "two workers")
        workers = workers_of(address)
        process.kill()
        until(lambda: not any(Path(f"/proc/{one}").exists() for one in workers), "the workers end")
        with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
            pass
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_worker_that_is_stuck_ends_with_its_parent(stripe_model: Path, tmp_path: Path) -> None:
    """Also one that runs no Python any more; it would keep the port."""
    (tmp_path / "sitecustomize.py").write_text(STUCK)
    environment = {"PYTHONPATH": str(tmp_path)}
    process = start(port=0, model_path=stripe_model, workers=2, environment=environment)
    workers = set[int]()
    try:
        address = address_of(process)
        wait(address)
        until(lambda: metric(address, "workers") == 2, "two workers")
        workers = workers_of(address)
        stuck = max(workers)
        os.kill(stuck, signal.SIGRTMIN)
        lines_until(process, "stuck")
        process.kill()
        until(lambda: not Path(f"/proc/{stuck}").exists(), "the worker ends")
    finally:
        process.kill()
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        process.communicate()
