"""Has Ray read the shards, on this machine or a cluster. No other module imports Ray.

Ray runs only actors, one for each CPU; each reads one shard at a time. An actor gets its first
shard once it has started, so that no shard waits for a CPU that never becomes free. Even if actors
or nodes fail, a shard's file is written as a whole or not at all.
"""

import os
import signal
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Ray reads these while it is imported. Values that the user has set are kept.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing phones home
# By default, workers have a low priority, and get little CPU time on a busy machine.
os.environ.setdefault("RAY_worker_niceness", "0")
if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys() or (
    Path.home() / ".ray" / "auth_token"
).exists():
    # Clusters of `ray start` require the token; `ray.init` sends it only in this mode.
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import ray
from ray.exceptions import RayError, RayTaskError

from service.bulk.rows import Counts, read_rows
from service.bulk.shards import Shard, read_pictures
from service.bulk.tables import Asked, Table
from service.ocr.recognizer import Recognizer
from service.query_params import Defaults, Questions
from service.runtime.cpu_budget import cpu_threads

_ATTEMPTS = 3
"""How often a shard is tried: the cause of a failure may be a node or an object store."""

_POLL_SECONDS = 1.0
_STALLED_SECONDS = 300.0
_PROBES = 10
"""How often an actor is asked how far it is before it counts as stalled."""

_CONNECT_SECONDS = 10
_OBJECT_STORE_BYTES = 100 << 20  # holds only the model; Ray's minimum is 75 MiB


class RunError(Exception):
    """Ray provides no workers, or the workers do not start; the text says which."""


@dataclass(frozen=True)
class Work:
    """What every actor needs.

    Attributes:
        source: the address of the input.
        target: the address of the table.
        asked: the model and the question, the same for every picture.
        batch: pictures per call of the model.
    """

    source: str
    target: str
    asked: Asked
    batch: int


@dataclass
class Progress:
    """Progress of a run; its numbers do not include failed shards."""

    shards: int = 0
    bytes: int = 0
    counts: Counts = field(default_factory=Counts)
    cpu_seconds: float = 0.0
    under_way: int = 0
    """Pictures read so far of unfinished shards, as last reported."""

    actors: int = 0
    waiting: str = ""
    """Why the run makes no progress; empty if it makes progress."""

    failed: dict[str, str] = field(default_factory=dict)
    """Shards that were given up, with the reason."""


class _Reader:
    """Reads shards in its own process. Two threads use it: one reads, one reports progress."""

    def __init__(self, work: Work, model: bytes) -> None:
        with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
            file.write(model)
            file.flush()
            self._recognizer = Recognizer.load(Path(file.name), max_pixels=work.asked.max_pixels)
        self._recognizer.verify(work.batch)
        metadata = self._recognizer.metadata
        questions = Questions(metadata.alphabet, metadata.min_confidence, Defaults())
        self._question, self._min_confidence = questions.ask(work.asked.query.encode())
        self._work = work
        self._table = Table(work.target)
        self._pictures = 0

    def ready(self) -> None:
        """Returns as soon as the actor can read."""

    def pictures(self) -> int:
        """How many pictures of the current shard have been read."""
        return self._pictures

    def read(self, shard: Shard) -> tuple[Counts, float]:
        """Writes the file of a shard; returns its counts and the CPU seconds that this took."""
        self._pictures = 0
        started = time.process_time()
        counts = self._table.write(self._work.asked.file_of(shard), self._rows(shard))
        return counts, time.process_time() - started

    def _rows(self, shard: Shard) -> Iterator[dict[str, Any]]:
        pictures = read_pictures(self._work.source, shard)
        for row in read_rows(
            self._recognizer, pictures, self._question, self._min_confidence, self._work.batch
        ):
            yield row
            self._pictures += 1


@dataclass
class _Actor:
    """An actor as the driver sees it. It has no shard while it starts or is idle."""

    handle: Any
    shard: Shard | None = None
    pictures: int = 0
    progressed_at: float = field(default_factory=time.monotonic)
    """Monotonic time, in seconds, when the actor was last known to have read something."""

    probe: Any = None


@contextmanager
def cluster(address: str | None, actors: int | None) -> Iterator[int]:
    """Joins a Ray cluster, or starts one on this machine alone; yields the number of actors.

    One CPU stays free: in a cluster, the driver needs it; on this machine, Ray is told of an
    additional one. From then on, SIGTERM raises KeyboardInterrupt, as Ctrl-C does.

    Args:
        address: of the cluster; `auto`: the cluster that this machine belongs to; None: start one.
        actors: number of actors; None: one for each other CPU.

    Raises:
        RunError: there is no such cluster.
    """
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        number = actors or cpu_threads()
        options |= {
            "address": "local",
            "num_cpus": number + 1,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    else:
        options["address"] = address
    try:
        _check_reachable(address)
        ray.init(**options)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        where = "on this machine" if address is None else f"at {address}"
        raise RunError(f"Ray cannot be started or joined {where}: {error}") from error
    # Ray's own handler prints a C++ stack trace and ends the process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if address is not None:
            number = actors or max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
        yield number
    finally:
        ray.shutdown()


class Driver:
    """Has the actors of the joined cluster read shards and write the files of these shards.

    Args:
        model: the content of the model file, so that no other machine needs it.
        patience: seconds to wait while there is no worker; a cluster may add nodes meanwhile.
        report: called with the progress every second or more often.
        stalled_seconds: an actor that has read nothing for this time is replaced.
    """

    def __init__(
        self,
        shards: list[Shard],
        work: Work,
        model: bytes,
        actors: int,
        patience: float,
        report: Callable[[Progress], None],
        stalled_seconds: float = _STALLED_SECONDS,
    ) -> None:
        self._queue = deque(shards)
        self._attempts: dict[str, int] = {}
        self._make = ray.remote(num_cpus=1, max_concurrency=2)(_Reader).remote
        self._arguments = (work, ray.put(model))
        self._max_actors = actors
        self._patience = patience
        self._report = report
        self._stalled_seconds = stalled_seconds
        self._progress = Progress()
        self._pending: dict[Any, _Actor] = {}
        self._idle: list[_Actor] = []
        self._broken_starts = 0
        self._last_worker = self._last_probe = time.monotonic()

    def run(self) -> Progress:
        """Reads all shards; returns the progress at the end.

        Raises:
            RunError: there were no workers for longer than the patience, or none can start.
        """
        for _ in range(min(self._max_actors, len(self._queue))):
            self._start()
        while self._queue or any(actor.shard for actor in self._pending.values()):
            done, _ = ray.wait(list(self._pending), timeout=_POLL_SECONDS)
            for reference in done:
                self._finished(reference)
            while self._queue and self._idle:
                self._dispatch(self._idle.pop())
            self._watch()
            self._report(self._progress)
        return self._progress

    def _start(self) -> None:
        actor = _Actor(self._make(*self._arguments))
        self._pending[actor.handle.ready.remote()] = actor

    def _dispatch(self, actor: _Actor) -> None:
        actor.shard = self._queue.popleft()
        actor.pictures, actor.progressed_at = 0, time.monotonic()
        self._pending[actor.handle.read.remote(actor.shard)] = actor

    def _finished(self, reference: Any) -> None:
        actor = self._pending.pop(reference)
        shard, actor.shard = actor.shard, None
        try:
            result = ray.get(reference)
        except RayTaskError as error:
            self._idle.append(actor)
            self._try_again(shard, f"{error.cause}")
            return
        except RayError as error:  # the actor or its node has failed, or memory has run out
            self._died(shard, error)
            return
        self._idle.append(actor)
        self._broken_starts = 0
        if shard is not None:
            counts, cpu_seconds = result
            self._progress.shards += 1
            self._progress.bytes += shard.size
            self._progress.counts += counts
            self._progress.cpu_seconds += cpu_seconds

    def _died(self, shard: Shard | None, error: RayError) -> None:
        """Replaces an actor that has ended alone or with its node."""
        if shard is not None:
            self._try_again(shard, "the worker ended while it read this shard")
        else:
            self._broken_starts += 1
            if self._broken_starts > 2 * self._max_actors:
                raise RunError(f"the workers do not start: {error}")
        self._start()

    def _try_again(self, shard: Shard | None, reason: str) -> None:
        assert shard is not None  # `ready` raises nothing
        self._attempts[shard.name] = self._attempts.get(shard.name, 0) + 1
        if self._attempts[shard.name] < _ATTEMPTS:
            self._queue.append(shard)
        else:
            self._progress.failed[shard.name] = reason

    def _watch(self) -> None:
        """Detects that the run makes no progress, which Ray itself does not report."""
        now = time.monotonic()
        busy = [actor for actor in self._pending.values() if actor.shard]
        self._progress.actors = len(busy)
        self._progress.waiting = ""
        if busy:
            self._last_worker = now
        elif self._queue:
            self._progress.waiting = f"no worker has started, {_cpus()}"
            if now - self._last_worker > self._patience:
                raise RunError(f"after {self._patience:.0f} s {self._progress.waiting}")
        if now - self._last_probe >= self._stalled_seconds / _PROBES:
            self._last_probe = now
            for actor in busy:
                self._probe(actor, now)
        self._progress.under_way = sum(actor.pictures for actor in busy)

    def _probe(self, actor: _Actor, now: float) -> None:
        """Asks an actor for its progress; kills a stalled actor, which `_died` then replaces."""
        if actor.probe is not None and ray.wait([actor.probe], timeout=0)[0]:
            try:
                pictures = ray.get(actor.probe)
            except RayError:
                return  # the actor has died; getting the result of its shard will fail, too
            if pictures != actor.pictures:
                actor.pictures, actor.progressed_at = pictures, now
            actor.probe = None
        if now - actor.progressed_at > self._stalled_seconds:
            ray.kill(actor.handle)
        elif actor.probe is None:
            actor.probe = actor.handle.pictures.remote()


def _check_reachable(address: str | None) -> None:
    """Raises an OSError if nothing listens there; Ray would try again for many minutes."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.removeprefix("ray://"), int(port)), _CONNECT_SECONDS).close()


def _cpus() -> str:
    """The CPUs of the cluster, in words."""
    every = ray.cluster_resources().get("CPU", 0)
    free = ray.available_resources().get("CPU", 0)
    return f"{free:g} of {every:g} CPUs are free"
