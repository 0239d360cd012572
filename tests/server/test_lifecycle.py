"""How the service changes its model, replaces lost workers and shuts down, on real processes."""

import base64
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from uvicorn.config import STARTUP_FAILURE

from tests import stripes
from tests.server.process import (
    START_SECONDS,
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
from tests.server.wire import HEAD, answers

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

HALF_A_REPORT = """
import os, struct, sys, time
from multiprocessing.connection import Connection

def send_half(connection, message):
    os.write(connection.fileno(), struct.pack("!i", len(message)))
    time.sleep(3600)

if "multiprocessing.spawn" in " ".join(sys.orig_argv):
    Connection._send_bytes = send_half
"""
"""Workers stop in the middle of their first report."""

STUCK = """
import ctypes, os, signal
def stick(*_):
    os.write(2, b"stuck\\n")
    mutex, library = ctypes.create_string_buffer(64), ctypes.PyDLL(None)
    while True:
        library.pthread_mutex_lock(mutex)
signal.signal(signal.SIGRTMIN, stick)
"""
"""On a signal, a process blocks for ever in C code, and none of its Python threads runs."""


def info(address: str) -> dict[str, object]:
    return httpx2.get(f"{address}/info").json()


def address_of_two_workers(process: subprocess.Popen[str]) -> str:
    """The address of a starting service, once two workers run."""
    address = address_of(process)
    wait(address)
    until(lambda: metric(address, "workers") == 2, "two workers run")
    return address


def slow_start(folder: Path, seconds: float) -> dict[str, str]:
    """Environment variables that delay the first line of code of each worker by so many seconds."""
    (folder / "sitecustomize.py").write_text(SLOW_START.format(seconds=seconds))
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_new_model_is_served_without_a_gap(workers: int, tmp_path: Path) -> None:
    """All requests meanwhile are answered, first by the old model and then by the new one."""
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


def test_a_bad_model_file_does_not_replace_the_served_model(tmp_path: Path) -> None:
    """A model that cannot be loaded, or reads wrongly, is reported. A good model is then served."""
    model = stripes.write_model(tmp_path / "model.onnx")
    with serving(model_path=model, reload_seconds=0.1) as address:
        model.write_bytes(model.read_bytes()[:-100])
        until(
            lambda: "cannot be loaded" in str(info(address)["reload_error"]),
            "the truncated file is reported",
        )
        assert version(address) == "1"
        golden = stripes.metadata().golden[0]
        wrong = type(golden)(golden.data, "dd")
        replace(model, version="2", golden=(wrong,))
        until(lambda: "golden" in str(info(address)["reload_error"]), "the wrong model is reported")
        assert version(address) == "1"
        model.unlink()
        replace(model, version="3")
        until(lambda: version(address) == "3", "the good model answers")
        assert info(address)["reload_error"] is None
        assert info(address)["reloads"] == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_readiness_ends_before_the_service_does(workers: int, stripe_model: Path) -> None:
    """After SIGTERM the service is not ready, but answers requests and closes their connections."""
    process = start(port=0, model_path=stripe_model, drain_seconds=3, workers=workers)
    try:
        address = address_of(process)
        wait(address)
        until(lambda: metric(address, "workers") == workers, "all workers run")
        with httpx2.Client() as client:
            client.get(f"{address}/health/live")
            process.send_signal(signal.SIGTERM)
            until(
                lambda: client.get(f"{address}/health/ready").status_code == 503,
                "the service is no longer ready",
            )
            answer = client.post(f"{address}/predict", content=stripes.picture("a"), headers=PNG)
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()


@pytest.mark.parametrize("workers", [1, 2])
def test_no_answer_is_lost_at_shutdown(workers: int, stripe_model: Path) -> None:
    """Clients that send requests all the time, and obey `Connection: close`, get every answer."""
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
def test_a_stuck_upload_does_not_block_the_shutdown(workers: int, stripe_model: Path) -> None:
    """A request that never arrives gets its 408 during the shutdown, which then ends."""
    process = start(
        port=0, model_path=stripe_model, workers=workers, request_seconds=2, shutdown_seconds=60
    )
    try:
        address = address_of(process)
        wait(address)
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\nabc")
            process.send_signal(signal.SIGTERM)
            assert [status for status, _ in answers(connection)] == [408]
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()


@pytest.mark.parametrize("workers", [1, 2])
def test_signals_without_a_meaning_are_ignored(workers: int, stripe_model: Path) -> None:
    """SIGHUP, SIGUSR1 and SIGUSR2 end neither the service nor a worker."""
    with serving(model_path=stripe_model, workers=workers) as address:
        until(lambda: metric(address, "workers") == workers, "all workers run")
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
def test_a_lost_worker_is_replaced(how: int, reason: str, stripe_model: Path) -> None:
    """One of two workers dies or hangs. The other goes on, and a new one starts. The log gives the
    reason, and what the lost worker has counted is kept.
    """
    process = start(port=0, model_path=stripe_model, workers=2, worker_timeout_seconds=4)
    try:
        address = address_of_two_workers(process)
        for _ in range(20):
            version(address)
        until(lambda: metric(address, "confidence_count") == 20, "all readings are counted")
        lost = min(workers_of(address))
        os.kill(lost, how)
        assert f"[{lost}] {reason}" in lines_until(process, f"worker [{lost}]")
        until(lambda: metric(address, "worker_starts_total") == 3, "a third worker has started")
        until(lambda: metric(address, "workers") == 2, "two workers run again")
        assert metric(address, "confidence_count") == 20
        assert lost not in workers_of(address)
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the workers can share no memory")
def test_workers_share_the_limit_of_a_key(stripe_model: Path) -> None:
    """One worker may read all that a key is allowed. What it reads counts for the others, too, and
    for a worker that is started later.
    """
    picture = {"image": base64.b64encode(stripes.picture("a")).decode()}
    batch = {"images": [picture["image"]] * 500}
    settings = {"api_keys": "shop:a,other:b", "key_pictures_per_second": 2, "max_batch": 500}

    def statuses(key: str) -> set[int]:
        """The statuses of 30 requests, each on a new connection."""
        url, headers = f"{address}/predict", {"X-API-Key": key}
        return {httpx2.post(url, json=picture, headers=headers).status_code for _ in range(30)}

    with serving(model_path=stripe_model, workers=2, **settings) as address:
        until(lambda: metric(address, "workers") == 2, "two workers run")
        with httpx2.Client(base_url=address, headers={"X-API-Key": "a"}, timeout=30) as client:
            assert client.post("/predict", json=picture).status_code == 200
            assert client.post("/predict/batch", json=batch).status_code == 200
            refused = client.post("/predict", json=picture)
            assert refused.status_code == 429
            assert "may have 2 pictures read a second" in refused.json()["detail"]
        assert len(workers_of(address)) == 2
        assert statuses("a") == {429}
        os.kill(min(workers_of(address)), signal.SIGKILL)
        until(lambda: metric(address, "worker_starts_total") == 3, "a third worker has started")
        until(lambda: metric(address, "workers") == 2, "two workers run again")
        assert statuses("a") == {429}
        assert 200 in statuses("b")


BOUNDED_STARTS = """
from multiprocessing.context import SpawnProcess
from threading import Thread
from service.server.main import main

def bound(kind, counts, error):
    start, starts = kind.start, []

    def bounded(one):
        starts.extend([one] * counts(one))
        if counts(one) and len(starts) == 3:
            raise error
        start(one)

    kind.start = bounded

{bound}
raise SystemExit(main())
"""
"""The system allows no third worker, or no third thread that receives reports, once."""


@pytest.mark.parametrize(
    "bound",
    [
        "bound(SpawnProcess, lambda one: True, BlockingIOError(11, 'temporarily unavailable'))",
        "bound(Thread, lambda one: 'receive' in one.name, RuntimeError('temporarily unavailable'))",
    ],
    ids=["processes", "threads"],
)
def test_a_worker_that_cannot_be_started_is_started_later(bound: str, stripe_model: Path) -> None:
    """The other worker goes on meanwhile, and no process is left that nobody knows of."""
    code = BOUNDED_STARTS.format(bound=bound)
    process = start(code, port=0, model_path=stripe_model, workers=2)
    try:
        address = address_of_two_workers(process)
        os.kill(min(workers_of(address)), signal.SIGKILL)
        assert "temporarily unavailable" in lines_until(process, "no worker can be started")
        version(address)
        until(lambda: metric(address, "workers") == 2, "two workers run again")
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()


def test_metrics_are_refused_while_counts_of_workers_are_missing(stripe_model: Path) -> None:
    """Otherwise the counters would go back."""
    process = start(port=0, model_path=stripe_model, workers=2)
    try:
        address = address_of_two_workers(process)
        process.send_signal(signal.SIGSTOP)
        answer = httpx2.get(f"{address}/metrics", timeout=30)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/metrics-incomplete")
        process.send_signal(signal.SIGCONT)
        until(
            lambda: httpx2.get(f"{address}/metrics").status_code == 200,
            "the metrics are complete again",
        )
        process.terminate()
        process.communicate(timeout=60)
    finally:
        process.kill()


def test_workers_may_start_slowly(stripe_model: Path, tmp_path: Path) -> None:
    """A worker is not started again because its imports take long on a slow machine."""
    environment = slow_start(tmp_path, 7)
    with serving(model_path=stripe_model, workers=2, environment=environment) as address:
        starts = []

        def both_count() -> bool:
            starts.append(metric(address, "worker_starts_total"))
            return metric(address, "workers") == 2 == starts[-1]

        until(both_count, "two workers run")
        assert not any(count > 2 for count in starts)


def test_a_worker_that_does_not_start_is_replaced(stripe_model: Path, tmp_path: Path) -> None:
    """After the seconds of a setting, which the log names."""
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


def test_a_worker_that_stops_in_the_middle_of_a_report_does_not_stop_the_supervisor(
    stripe_model: Path, tmp_path: Path
) -> None:
    """The supervisor still ends the service on a signal."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "sitecustomize.py").write_text(HALF_A_REPORT)
    environment = {"PYTHONPATH": str(tmp_path)}
    process = start(port=port, model_path=stripe_model, workers=2, environment=environment)
    try:
        wait(f"http://127.0.0.1:{port}")
        process.terminate()
        output, _ = process.communicate(timeout=START_SECONDS)
        assert process.returncode == 0, output
    finally:
        process.kill()


def test_workers_that_cannot_start_end_the_service(stripe_model: Path) -> None:
    """If only the workers cannot load the model, the service ends, with a status other than 0."""
    # The model file is deleted after the check at the start, before the workers load it.
    code = (
        "import sys, service.server.main as main; listen = main.listen;"
        "main.listen = lambda h, p: (main.Settings().model_path.unlink(), listen(h, p))[1];"
        "sys.exit(main.main())"
    )
    status, output = fails_to_start(code=code, model_path=stripe_model, workers=2)
    assert status != 0, output


def test_the_service_goes_on_if_one_worker_cannot_start(stripe_model: Path, tmp_path: Path) -> None:
    """The other worker is still loading the model, and will serve it."""
    code = FAILED_START.format(first=str(tmp_path / "first"), status=STARTUP_FAILURE)
    (tmp_path / "sitecustomize.py").write_text(code)
    environment = {"PYTHONPATH": str(tmp_path)}
    with serving(model_path=stripe_model, workers=2, environment=environment) as address:
        until(lambda: metric(address, "workers") == 2, "two workers run")
        assert metric(address, "worker_starts_total") == 2


def test_the_service_ends_with_its_last_worker(stripe_model: Path) -> None:
    """While the model file is broken, a worker that dies is not replaced. When the last one dies,
    the service ends, so that no client waits in vain.
    """
    process = start(port=0, model_path=stripe_model, workers=2, reload_seconds=0.1)
    try:
        address = address_of_two_workers(process)
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


@pytest.mark.skipif(sys.platform != "linux", reason="the score of Linux")
def test_the_kernel_prefers_to_kill_workers(stripe_model: Path) -> None:
    """If memory runs out, and not their supervisor, which replaces them."""
    process = start(port=0, model_path=stripe_model, workers=2)
    try:
        address = address_of_two_workers(process)
        supervisor, *workers = (
            int(Path(f"/proc/{one}/oom_score_adj").read_text())
            for one in (process.pid, *workers_of(address))
        )
        assert all(worker > supervisor for worker in workers)
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_workers_end_with_their_parent(stripe_model: Path) -> None:
    """Even if the parent is killed, its workers stop answering and free the port."""
    process = start(port=0, model_path=stripe_model, workers=2)
    try:
        address = address_of_two_workers(process)
        workers = workers_of(address)
        process.kill()
        until(lambda: not any(Path(f"/proc/{one}").exists() for one in workers), "the workers end")
        with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
            pass
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_stuck_worker_ends_with_its_parent(stripe_model: Path, tmp_path: Path) -> None:
    """Even a worker that runs no Python code any more. Otherwise it would keep the port."""
    (tmp_path / "sitecustomize.py").write_text(STUCK)
    environment = {"PYTHONPATH": str(tmp_path)}
    process = start(port=0, model_path=stripe_model, workers=2, environment=environment)
    workers = set[int]()
    try:
        address = address_of_two_workers(process)
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
