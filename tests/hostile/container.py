"""Runs the service in a container, with the options of docker-compose.yml, and reads its memory.

The memory is read outside the container from its control group, of version 1 or 2 (see the Linux
kernel's cgroup-v1/memory and cgroup-v2). A command inside would itself be charged to the container.
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
    """A command of the engine failed; the message has its error output."""


class Engine:
    """A Docker engine on this machine.

    Args:
        client: the name of its command-line client.
    """

    def __init__(self, client: str) -> None:
        self._client = client

    def do(self, *arguments: str) -> str:
        """Runs a command; returns its output.

        Raises:
            EngineError: the command failed.
        """
        command = [self._client, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EngineError(f"docker {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")
        return done.stdout.strip()

    def inspect(self, container: str) -> dict[str, Any]:
        """The description of a container."""
        return json.loads(self.do("inspect", container))[0]


class ControlGroup:
    """The control group of a process.

    Raises:
        FileNotFoundError: the control group cannot be read from here.
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
        """The charged bytes without the inactive file cache, as `docker stats` counts them.

        The kernel reclaims the inactive file cache before memory runs out.
        """
        used = int(self._read("memory.usage_in_bytes", "memory.current"))
        stat = self._read("memory.stat", "memory.stat")
        return used - self._field(stat, "total_inactive_file", "inactive_file")

    def oom_kills(self) -> int:
        """The number of processes killed for lack of memory; -1 if no process is left."""
        with suppress(FileNotFoundError):
            return self._field(self._read("memory.oom_control", "memory.events"), "oom_kill")
        return -1

    @contextmanager
    def peak(self, every: float = 0.02) -> Iterator[list[int]]:
        """Gives a list of one item: the most bytes used so far, read every `every` seconds."""
        most = [self.used()]
        end = Event()

        def look() -> None:
            with suppress(OSError):  # the control group ends with its last process
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
        """The fields that change if the first process ends, and tell why."""
        seen = self.engine.inspect(self.name)
        told = {name: seen["State"][name] for name in ("Running", "Pid", "StartedAt", "OOMKilled")}
        return told | {"RestartCount": seen["RestartCount"]}


def compose_options() -> list[str]:
    """The options of docker-compose.yml for `docker run`, except memory, port and volume."""
    text = (ROOT / "docker-compose.yml").read_text()
    defaults = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)  # replaces variables by their defaults
    service = yaml.safe_load(defaults)["services"]["captcha-ocr"]
    options = [f"--restart={service['restart']}", f"--cpus={service['cpus']}"]
    options += [f"--pids-limit={service['pids_limit']}"] + ["--read-only"] * service["read_only"]
    for name, option in (("tmpfs", "tmpfs"), ("cap_drop", "cap-drop"), ("security_opt",) * 2):
        options += [f"--{option.replace('_', '-')}={value}" for value in service[name]]
    return options


@contextmanager
def image(engine: Engine) -> Iterator[str]:
    """Builds the image from the Dockerfile; removes the image afterwards."""
    name = f"captcha-ocr-hostile-{uuid.uuid4().hex[:8]}"
    engine.do("build", "--quiet", "--network=host", "--tag", name, ".")
    try:
        yield name
    finally:
        engine.do("image", "rm", "--force", name)


@contextmanager
def started(engine: Engine, image: str, options: Sequence[str] = ()) -> Iterator[Container]:
    """A ready container on its own network, so that clients reach it without a proxy."""
    name = f"{image}-{uuid.uuid4().hex[:8]}"
    engine.do("network", "create", name)
    try:
        engine.do("run", "--detach", f"--name={name}", f"--network={name}",
                  *compose_options(), *options, image)  # fmt: skip
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
