"""Starts a server as its users do, waits until it is ready, reads what it uses, and ends it.

A server is a process with all that descend from it; what they use is read from Linux's /proc
(see proc(5)).
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.connection import Address

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"

_READY_SECONDS = 120
_END_SECONDS = 20
_IDLE_SECONDS = 0.5
_IDLE_SHARE = 0.1
"""Of one processor's time, what a server may use that is taken to wait for requests."""
_TICKS = os.sysconf("SC_CLK_TCK")


class ServerError(Exception):
    """A server did not start; the message has what it wrote."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a server is started; `{port}` in the command and environment becomes its port."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: str = "/health/ready"


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """The fields of /proc/<pid>/stat that are needed here."""

    pid: int
    parent: int
    cpu_seconds: float  # user and system, with those of children that have ended
    resident_bytes: int


def parse_stat(text: str) -> ProcessStat:
    """Reads a line of /proc/<pid>/stat; the command in it may hold spaces and parentheses."""
    pid, _, rest = text.partition(" (")
    fields = rest.rpartition(") ")[2].split()
    # The first of these is field 3 of proc(5).
    ticks = sum(map(int, fields[11:15]))
    resident = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return ProcessStat(int(pid), int(fields[1]), ticks / _TICKS, resident)


def family(root: int, processes: Iterable[ProcessStat]) -> list[ProcessStat]:
    """The process and all that descend from it."""
    by_parent: dict[int, list[ProcessStat]] = {}
    members = []
    for process in processes:
        by_parent.setdefault(process.parent, []).append(process)
        if process.pid == root:
            members.append(process)
    for member in members:  # grows while it is walked
        members += by_parent.get(member.pid, [])
    return members


def _all_processes() -> Iterator[ProcessStat]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            # It may have ended since it was listed.
            with contextlib.suppress(OSError):
                yield parse_stat((folder / "stat").read_text())


class Server:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], address: Address) -> None:
        self.process = process
        self.address = address
        self.ready_seconds = float("nan")  # from the start of the process

    def family(self) -> list[ProcessStat]:
        """All processes of the server, the first one first."""
        return family(self.process.pid, _all_processes())

    def cpu_seconds(self) -> float:
        """CPU time that all of its processes have used."""
        return sum(process.cpu_seconds for process in self.family())

    def status_of(self, path: str) -> int | None:
        """The status that a path is answered with, None without an answer."""
        connection = http.client.HTTPConnection(*self.address, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def wait_until_ready(self, path: str, started: float) -> None:
        """Asks until the path is answered with 200.

        Raises:
            ServerError: the server ended, or did not become ready in time.
        """
        while self.status_of(path) != 200:
            if self.process.poll() is not None:
                raise ServerError(f"it ended with status {self.process.returncode}")
            if time.perf_counter() - started > _READY_SECONDS:
                raise ServerError(f"it was not ready after {_READY_SECONDS} s")
            time.sleep(0.01)
        self.ready_seconds = time.perf_counter() - started

    def settle(self) -> None:
        """Waits until it has nothing to do.

        The first of several workers answers while others start, and would be given all connections.

        Raises:
            ServerError: it goes on working without requests.
        """
        end = time.perf_counter() + _READY_SECONDS
        while time.perf_counter() < end:
            before = self.cpu_seconds()
            time.sleep(_IDLE_SECONDS)
            if self.cpu_seconds() - before <= _IDLE_SHARE * _IDLE_SECONDS:
                return
        raise ServerError(f"it was not idle after {_READY_SECONDS} s")

    def end(self) -> int:
        """Ends it with SIGTERM, or else with SIGKILL.

        Returns:
            Its exit status.
        """
        members = self.family()
        self.process.terminate()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # A server that leaves its children behind is cleaned up after.
        for member in members[1:]:
            with contextlib.suppress(OSError):
                if os.getpgid(member.pid) == self.process.pid:
                    os.kill(member.pid, signal.SIGKILL)
        return self.process.returncode


@contextlib.contextmanager
def running(recipe: Recipe, cpus: set[int] | None = None) -> Iterator[Server]:
    """A server that is ready; it is ended when it is no longer needed.

    Args:
        cpus: the processors that it may use; default: those of this process.

    Raises:
        ServerError: it did not start.
    """
    port = _free_port()
    settings = {name: text.format(port=port) for name, text in recipe.environment.items()}
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OCR_")}
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        with _confined(cpus):
            process = subprocess.Popen(
                [part.format(port=port) for part in recipe.command],
                cwd=ROOT,
                env={**inherited, **settings},
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own, so that an interrupt from the keyboard ends it only once.
                start_new_session=True,
            )
        server = Server(process, Address(HOST, port))
        try:
            server.wait_until_ready(recipe.ready, started)
            yield server
        except ServerError as error:
            log.seek(0)
            tail = log.read().decode(errors="replace")[-2000:]
            raise ServerError(f"{recipe.name}: {error}\nIts last words:\n{tail}") from error
        finally:
            server.end()


@contextlib.contextmanager
def _confined(cpus: set[int] | None) -> Iterator[None]:
    """Processes that are started meanwhile may use only these processors."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
