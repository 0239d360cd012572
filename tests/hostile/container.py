"""The service in a container, started as docker-compose.yml does, and the memory it is charged for.

Memory is read from outside, from the container's control group, of version 1 or 2
(see the Linux kernel's cgroup-v1/memory and cgroup-v2): what is asked inside is charged, too.
"""

import json
import re
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import yaml

from benchmarks.connection import Address

ROOT = Path(__file__).parents[2]
_MOUNT = Path("/sys/fs/cgroup")
_READY_SECONDS = 60


class EngineError(Exception):
    """The engine did not do what it was asked; the message has what it wrote."""


class Engine:
    """A Docker engine on this machine.

    Args:
        client: its command line.
    """

    def __init__(self, client: str) -> None:
        self._client = client

    def do(self, *arguments: str) -> str:
        """What a command prints.

        Raises:
            EngineError: it failed.
        """
        command = [self._client, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EngineError(f"docker {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")
        return done.stdout.strip()

    def inspect(self, container: str) -> dict[str, Any]:
        """What it knows of a container."""
        return json.loads(self.do("inspect", container))[0]


class ControlGroup:
    """The control group that holds a process.

    Raises:
        FileNotFoundError: it cannot be seen from here.
    """

    def __init__(self, pid: int) -> None:
        lines = (line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().split())
        places = {controllers: place.lstrip("/") for _, controllers, place in lines}
        self.version = 1 if "memory" in places else 2
        self._folder = _MOUNT / ("memory/" + places["memory"] if self.version == 1 else places[""])
        self.used()

    def _read(self, version_1: str, version_2: str) -> str:
        return (self._folder / (version_1 if self.version == 1 else version_2)).read_text()

    def _field(self, text: str, *names: str) -> int:
        fields = dict(line.split() for line in text.splitlines())
        return next(int(fields[name]) for name in names if name in fields)

    def used(self) -> int:
        """Bytes it is charged for, less those of files that have been read and not used again.

        So does `docker stats`. The kernel takes those back before it calls memory short.
        """
        used = int(self._read("memory.usage_in_bytes", "memory.current"))
        stat = self._read("memory.stat", "memory.stat")
        return used - self._field(stat, "total_inactive_file", "inactive_file")

    def oom_kills(self) -> int:
        """Processes that were killed for want of memory, as long as there are others."""
        with suppress(FileNotFoundError):
            return self._field(self._read("memory.oom_control", "memory.events"), "oom_kill")
        return -1

    @contextmanager
    def peak(self, every: float = 0.02) -> Iterator[list[int]]:
        """The most that is used meanwhile, in a list of one, as far as one sees who looks often."""
        most = [self.used()]
        end = Event()

        def look() -> None:
            with suppress(OSError):  # it ends with its last process
                while not end.wait(every):
                    most[0] = max(most[0], self.used())

        looking = Thread(target=look)
        looking.start()
        try:
            yield most
        finally:
            end.set()
            looking.join()


@dataclass(frozen=True, slots=True)
class Container:
    """A running container."""

    engine: Engine
    name: str
    address: Address
    memory: ControlGroup

    @property
    def state(self) -> dict[str, Any]:
        """Whatever tells whether it is the process that was started, and why not."""
        seen = self.engine.inspect(self.name)
        told = {name: seen["State"][name] for name in ("Running", "Pid", "StartedAt", "OOMKilled")}
        return told | {"RestartCount": seen["RestartCount"]}


def as_composed() -> list[str]:
    """The options that docker-compose.yml stands for, but for its memory, port and volume."""
    text = (ROOT / "docker-compose.yml").read_text()
    defaults = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)  # of the variables in it
    service = yaml.safe_load(defaults)["services"]["captcha-ocr"]
    options = [f"--restart={service['restart']}", f"--cpus={service['cpus']}"]
    options += [f"--pids-limit={service['pids_limit']}"] + ["--read-only"] * service["read_only"]
    for name, option in (("tmpfs", "tmpfs"), ("cap_drop", "cap-drop"), ("security_opt",) * 2):
        options += [f"--{option.replace('_', '-')}={value}" for value in service[name]]
    return options


@contextmanager
def image(engine: Engine) -> Iterator[str]:
    """The image that the Dockerfile makes; it is removed afterwards."""
    name = f"captcha-ocr-hostile-{uuid.uuid4().hex[:8]}"
    engine.do("build", "--quiet", "--network=host", "--tag", name, ".")
    try:
        yield name
    finally:
        engine.do("image", "rm", "--force", name)


@contextmanager
def started(engine: Engine, image: str, options: Sequence[str] = ()) -> Iterator[Container]:
    """A container, ready, on a network of its own: no proxy stands between it and its clients."""
    name = f"{image}-{uuid.uuid4().hex[:8]}"
    engine.do("network", "create", name)
    try:
        engine.do("run", "--detach", f"--name={name}", f"--network={name}",
                  *as_composed(), *options, image)  # fmt: skip
        seen = engine.inspect(name)
        address = Address(seen["NetworkSettings"]["Networks"][name]["IPAddress"], 8000)
        _wait_until_healthy(engine, name)
        yield Container(engine, name, address, ControlGroup(seen["State"]["Pid"]))
    finally:
        for command in (("rm", "--force", name), ("network", "rm", name)):
            engine.do(*command)


def _wait_until_healthy(engine: Engine, name: str) -> None:
    end = time.monotonic() + _READY_SECONDS
    while (health := engine.inspect(name)["State"]["Health"]["Status"]) != "healthy":
        if time.monotonic() > end:
            raise EngineError(f"the container is {health}: {engine.do('logs', name)[-2000:]}")
        time.sleep(0.2)
