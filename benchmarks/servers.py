"""Starts a server as its users do, waits until it is ready, measures its resources, and ends it.

A server is a process with all its descendants. Their CPU time and memory are read from Linux's
/proc (see proc(5)).
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
"""Share of one processor's time below which a server counts as idle."""
_TICKS = os.sysconf("SC_CLK_TCK")


class ServerError(Exception):
    """A server did not start or work; the message may contain its output."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to start a server; `{port}` in the command and environment is replaced by its port."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: str = "/health/ready"


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """Fields of /proc/<pid>/stat."""

    pid: int
    parent: int
    cpu_seconds: float  # user and system time, that of ended children included
    resident_bytes: int


def parse_stat(text: str) -> ProcessStat:
    """Reads a line of /proc/<pid>/stat; the command in it may hold spaces and parentheses."""
    pid, _, rest = text.partition(" (")
    fields = rest.rpartition(") ")[2].split()
    # fields[0] is field 3 of proc(5).
    ticks = sum(map(int, fields[11:15]))
    resident = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return ProcessStat(int(pid), int(fields[1]), ticks / _TICKS, resident)


def family(root: int, processes: Iterable[ProcessStat]) -> list[ProcessStat]:
    """The process `root` and all its descendants."""
    by_parent: dict[int, list[ProcessStat]] = {}
    members = []
    for process in processes:
        by_parent.setdefault(process.parent, []).append(process)
        if process.pid == root:
            members.append(process)
    for member in members:  # the loop appends to this list
        members += by_parent.get(member.pid, [])
    return members


def _all_processes() -> Iterator[ProcessStat]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            # The process may have ended since it was listed.
            with contextlib.suppress(OSError):
                yield parse_stat((folder / "stat").read_text())


class Server:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], address: Address) -> None:
        self.process = process
        self.address = address
        self.ready_seconds = float("nan")  # from the start of the process until it was ready

    def family(self) -> list[ProcessStat]:
        """All processes of the server, the one that was started first."""
        return family(self.process.pid, _all_processes())

    def cpu_seconds(self) -> float:
        """CPU time that all processes of the server have used, in seconds."""
        return sum(process.cpu_seconds for process in self.family())

    def status_of(self, path: str) -> int | None:
        """The status of the answer to a GET of a path; None if there is no answer."""
        connection = http.client.HTTPConnection(*self.address, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def wait_until_ready(self, path: str, started: float) -> None:
        """Requests the path until the answer is 200.

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
        """Waits until the server is idle.

        The first of several workers answers while others still start, and would then get all
        connections.

        Raises:
            ServerError: the server does not become idle.
        """
        end = time.perf_counter() + _READY_SECONDS
        while time.perf_counter() < end:
            before = self.cpu_seconds()
            time.sleep(_IDLE_SECONDS)
            if self.cpu_seconds() - before <= _IDLE_SHARE * _IDLE_SECONDS:
                return
        raise ServerError(f"it was not idle after {_READY_SECONDS} s")

    def end(self) -> int:
        """Ends the server with SIGTERM, or with SIGKILL if that takes too long.

        Returns:
            The exit status.
        """
        members = self.family()
        self.process.terminate()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # Some servers leave child processes behind.
        for member in members[1:]:
            with contextlib.suppress(OSError):
                if os.getpgid(member.pid) == self.process.pid:
                    os.kill(member.pid, signal.SIGKILL)
        return self.process.returncode


@contextlib.contextmanager
def running(recipe: Recipe, cpus: set[int] | None = None) -> Iterator[Server]:
    """Starts a server, gives it once it is ready, and ends it.

    Args:
        cpus: the processors that the server may use; default: those of this process.

    Raises:
        ServerError: the server did not start.
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
                # With its own process group, Ctrl-C does not reach the server directly.
                start_new_session=True,
            )
        server = Server(process, Address(HOST, port))
        try:
            server.wait_until_ready(recipe.ready, started)
            yield server
        except ServerError as error:
            log.seek(0)
            tail = log.read().decode(errors="replace")[-2000:]
            raise ServerError(f"{recipe.name}: {error}\nThe end of its output:\n{tail}") from error
        finally:
            server.end()


@contextlib.contextmanager
def _confined(cpus: set[int] | None) -> Iterator[None]:
    """Lets processes that are started in this context use only these processors."""
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
