"""Each row is written once, even if drivers, processes or machines are lost during a bulk read.

The tests wait for conditions; no test depends on how long these take.
"""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("service.bulk.run", reason="the extra bulk is not installed; make test-bulk")

from service.bulk.run import Driver, Progress, Work, cluster
from service.bulk.shards import find_shards
from service.bulk.tables import Asked, Table
from tests.bulk.reading import (
    DEADLINE,
    MODEL,
    bulk_read,
    children,
    files,
    link_examples,
    name_of,
    start_bulk_read,
    table,
    wait_until,
)
from tests.cli.command import environment

SHARDS, EACH = 20, 150
PATHS = [f"{number:05}.png" for number in range(SHARDS * EACH)]

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's, of its own processes
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def twenty_shards(folder: Path) -> tuple[object, ...]:
    """Writes pictures that take seconds to read; gives the arguments of `bulk read`."""
    link_examples(folder / "in", SHARDS * EACH)
    return (
        folder / "in", folder / "out", "--model", MODEL, "--shard-pictures", EACH, "--actors", 2,
    )  # fmt: skip


def test_a_bulk_read_continues_after_its_driver_was_killed(tmp_path: Path) -> None:
    """The driver is killed after 8 of 20 shards. Finished shards are kept; of the shards in
    progress, one per process is read again.
    """
    arguments, out = twenty_shards(tmp_path), tmp_path / "out"
    with start_bulk_read(*arguments) as driver:
        try:
            wait_until(lambda: len(files(out)) >= 8 or driver.poll() is not None)
        finally:
            driver.kill()
    before = files(out)
    assert 8 <= len(before) < SHARDS
    done = bulk_read(*arguments)
    assert done.returncode == 0, done.stderr.decode()
    assert before.items() <= files(out).items()
    assert len(files(out)) == SHARDS
    assert [row["path"] for row in table(out)] == PATHS


def test_a_terminated_driver_reports_the_interruption(two_cpus: str, tmp_path: Path) -> None:
    """It gets SIGTERM, as from Kubernetes. The output has no stack trace of Ray."""
    with start_bulk_read(*twenty_shards(tmp_path), "--address", two_cpus) as driver:
        try:
            wait_until(lambda: bool(files(tmp_path / "out")) or driver.poll() is not None)
            driver.terminate()
            output, _ = driver.communicate(timeout=DEADLINE)
        finally:
            driver.kill()
    assert driver.returncode == 130, output
    assert output.endswith("Interrupted; the same command continues.\n")
    assert "SIGTERM" not in output


def readers() -> list[int]:
    """The reader processes of the clusters that this process has started."""
    nodes = children(os.getpid())
    return [pid for node in nodes for pid in children(node) if name_of(pid) == "ray::_Reader"]


def test_an_actor_that_hangs_is_replaced(two_cpus: str, tmp_path: Path) -> None:
    """Its process exists but does nothing, as if a file system did not respond."""
    link_examples(tmp_path / "in", 10 * 60)
    shards = find_shards(str(tmp_path / "in"), 60)
    asked = Asked("digest", "", 4_000_000)
    work = Work(str(tmp_path / "in"), str(tmp_path / "out"), asked, 8)
    Table(work.target).begin({}, [])
    stopped: list[int] = []

    def stop_one(progress: Progress) -> None:
        if progress.shards and not stopped and (found := readers()):
            stopped.append(found[0])
            os.kill(found[0], signal.SIGSTOP)

    wait_until(lambda: not readers())  # the readers of another test
    with cluster(two_cpus, 2) as actors:
        done = Driver(shards, work, MODEL.read_bytes(), actors, DEADLINE, stop_one, 10).run()
        wait_until(lambda: not name_of(stopped[0]))
    assert (done.shards, done.failed) == (10, {})
    assert len(table(tmp_path / "out")) == 600


class Machines:
    """Machines with a Ray node each, simulated by network namespaces that reach only each other.

    Args:
        number: the number of machines; the network switch is in the first machine.
        home: the user's home folder on all machines; it has the token of the cluster.

    Raises:
        OSError: network namespaces cannot be created here.
    """

    def __init__(self, number: int, home: Path, stack: ExitStack) -> None:
        self._names = [f"captcha-ocr-{os.getpid()}-{place}" for place in range(number)]
        # Sockets are below this folder, and their paths may have at most 107 characters.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-"))
        self.variables = {
            "HOME": str(home),
            "RAY_TMPDIR": folder,
            # As docs/scaling.md says.
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "5000",
            "RAY_health_check_failure_threshold": "3",
        }
        first = self._names[0]
        for name in self._names:
            _ip("netns", "add", name)
            stack.callback(self._end, name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", first, "link", "add", "switch", "type", "bridge")
        _ip("-n", first, "address", "add", f"{_address(0)}/24", "dev", "switch")
        _ip("-n", first, "link", "set", "switch", "up")
        for place, name in enumerate(self._names[1:], 1):
            port = ("link", "add", f"port{place}", "type", "veth")
            _ip("-n", first, *port, "peer", "name", "eth0", "netns", name)
            _ip("-n", first, "link", "set", f"port{place}", "master", "switch", "up")
            _ip("-n", name, "address", "add", f"{_address(place)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
        self.address = f"{_address(0)}:6379"
        token = self._ray(0, "get-auth-token", "--generate")
        assert token.returncode == 0, token.stderr
        for place in range(number):
            self._start(place)

    def _start(self, place: int) -> None:
        """Starts a node. Tries again if Ray gives up, as it does after 30 s on a busy machine."""
        role = ["--address", self.address] if place else ["--head", "--port", "6379"]
        node = ["--num-cpus", "1", "--object-store-memory", str(80 << 20)]
        for _ in range(5):
            done = self._ray(place, "start", *role, "--node-ip-address", _address(place), *node)
            if done.returncode == 0:
                return
            self._kill(self._names[place])
        pytest.fail(done.stdout + done.stderr)

    def _ray(self, place: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        ray = Path(sys.executable).with_name("ray")
        return subprocess.run(
            [*self.on(place), str(ray), *arguments],
            env=environment(**self.variables), timeout=DEADLINE,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def on(self, place: int) -> tuple[str, ...]:
        """The first words of a command that runs on a machine."""
        return ("nsenter", f"--net=/run/netns/{self._names[place]}")

    def raylet(self, place: int) -> int:
        """The process id of a machine's raylet, the process of a Ray node."""
        processes = self._processes(self._names[place])
        (found,) = [pid for pid in processes if name_of(pid) == "raylet"]
        return found

    def cut(self, place: int) -> None:
        """Cuts the network link of a machine."""
        _ip("-n", self._names[0], "link", "set", f"port{place}", "down")

    def _processes(self, name: str) -> list[int]:
        return [int(pid) for pid in _ip("netns", "pids", name).split()]

    def _kill(self, name: str) -> None:
        for pid in self._processes(name):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self._processes(name))

    def _end(self, name: str) -> None:
        self._kill(name)
        _ip("netns", "delete", name)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(done.stderr)
    return done.stdout


def _address(place: int) -> str:
    return f"10.77.0.{place + 1}"


def test_no_row_is_lost_when_machines_are_lost(tmp_path: Path) -> None:
    """Of three machines, the raylet of one is killed, and then the link of another is cut.

    The test prints the longest time in which no shard was finished; pytest's -rP shows that time.
    """
    link_examples(tmp_path / "in", SHARDS * EACH)
    out = tmp_path / "out"
    with ExitStack() as stack:
        try:
            machines = Machines(3, tmp_path, stack)
        except OSError as error:
            pytest.skip(f"network namespaces cannot be created; needs root and iproute2: {error}")
        driver = stack.enter_context(
            start_bulk_read(
                tmp_path / "in", out, "--model", MODEL, "--shard-pictures", EACH, "--actors", 3,
                "--address", machines.address,
                prefix=machines.on(0), **machines.variables,
            )
        )  # fmt: skip
        stack.callback(driver.kill)

        def wait_for_files(number: int) -> None:
            wait_until(lambda: len(files(out)) >= number or driver.poll() is not None)

        wait_for_files(3)
        os.kill(machines.raylet(1), signal.SIGKILL)
        wait_for_files(6)
        machines.cut(2)
        before = len(files(out))
        output, _ = driver.communicate(timeout=DEADLINE)
        assert driver.returncode == 0, output
    assert before < SHARDS
    assert [row["path"] for row in table(out)] == PATHS
    assert len(files(out)) == SHARDS
    pause = max(later - one for one, later in pairwise(sorted(files(out).values())))
    print(f"longest pause between two shards: {pause / 1e9:.1f} s")
