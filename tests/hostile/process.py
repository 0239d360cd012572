"""Runs a service in its own process; reads its memory, CPU time, descriptors and threads."""

import http.client
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.connection import Address
from benchmarks.servers import Recipe, Server, parse_stat, running

PNG = {"Content-Type": "image/png"}


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources of the process at one moment; `bytes` is its resident memory."""

    cpu_seconds: float
    bytes: int
    descriptors: int
    threads: int
    temporary_files: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A running service of one process."""

    server: Server
    temporary: Path

    @property
    def address(self) -> Address:
        """The address of the service."""
        return self.server.address

    @property
    def _proc(self) -> Path:
        return Path("/proc") / str(self.server.process.pid)

    @property
    def alive(self) -> bool:
        """Whether the process that was started still runs, and is ready."""
        return self.server.process.poll() is None and self.server.status_of("/health/ready") == 200

    def usage(self) -> Usage:
        """The current usage."""
        stat = parse_stat((self._proc / "stat").read_text())
        return Usage(
            stat.cpu_seconds,
            stat.resident_bytes,
            sum(1 for _ in (self._proc / "fd").iterdir()),
            sum(1 for _ in (self._proc / "task").iterdir()),
            sum(1 for _ in self.temporary.iterdir()),
        )

    def forget_peak(self) -> None:
        """Resets `peak_bytes` (proc(5), clear_refs)."""
        (self._proc / "clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """The largest resident memory since the last reset, in bytes."""
        lines = (self._proc / "status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

    def connected(self) -> AbstractContextManager[http.client.HTTPConnection]:
        """A connection to the service."""
        return connected(self.address)


@contextmanager
def watched(module: str = "service", **settings: object) -> Iterator[Watched]:
    """A ready service with the bundled model; ends the service afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {f"OCR_{name.upper()}": str(value) for name, value in settings.items()}
        environment |= {"OCR_PORT": "{port}", "OCR_LOG_LEVEL": "warning", "TMPDIR": folder}
        command: Sequence[str] = (sys.executable, "-m", module)
        with running(Recipe(module, command, environment)) as server:
            yield Watched(server, Path(folder))


@contextmanager
def connected(address: Address) -> Iterator[http.client.HTTPConnection]:
    """A connection for requests one after the other; reconnects if it is closed."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        yield connection
    finally:
        connection.close()


def post(
    connection: http.client.HTTPConnection, picture: bytes, headers: dict[str, str] = PNG
) -> tuple[int, bytes]:
    """Status and body of the answer to a picture."""
    connection.request("POST", "/predict", picture, headers)
    response = connection.getresponse()
    return response.status, response.read()
