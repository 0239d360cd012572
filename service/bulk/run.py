"""Has Ray read the shards, on this machine or a cluster. No other module imports Ray.

There are actors alone, one for each CPU, which read one shard at a time. An actor gets its first
shard when it has started, so that none waits for a CPU that nobody frees. Whatever becomes of
actors and nodes, a shard's file is written at once or not at all.
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

# Ray reads these while it is imported. What the user has set stays.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing phones home
# By default workers are nice, and get little of a machine that does something else, too.
os.environ.setdefault("RAY_worker_niceness", "0")
if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys() or (
    Path.home() / ".ray" / "auth_token"
).exists():
    # Clusters of `ray start` want the token; `ray.init` sends it only if asked to.
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
"""How often a shard is tried, since a node or an object store may have failed and not the shard."""

_LOOK_SECONDS = 1.0
_STALLED_SECONDS = 300.0
_PROBES = 10
"""How often an actor is asked how far it is before it counts as stalled."""

_CONNECT_SECONDS = 10
_OBJECT_STORE_BYTES = 100 << 20  # only the model is in it; the least that Ray takes is 75 MiB


class RunError(Exception):
    """Ray gives no workers, or they do not start; the text says which."""


@dataclass(frozen=True)
class Work:
    """What every actor needs.

    Attributes:
        source: the address of the input.
        target: the address of the table.
        asked: of every picture.
        batch: pictures for one call of the model.
    """

    source: str
    target: str
    asked: Asked
    batch: int


@dataclass
class Progress:
    """How far a run is; failed shards are not in it."""

    shards: int = 0
    bytes: int = 0
    counts: Counts = field(default_factory=Counts)
    cpu_seconds: float = 0.0
    under_way: int = 0
    """Pictures of shards that are not finished, as far as is known."""

    actors: int = 0
    waiting: str = ""
    """Why nothing goes on; empty: it does."""

    failed: dict[str, str] = field(default_factory=dict)
    """Shards that were given up, with the reason."""


class _Reader:
    """Reads shards in a process of its own. Two threads use it: one reads, one asks how far."""

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
        """How many pictures of the present shard are read."""
        return self._pictures

    def read(self, shard: Shard) -> tuple[Counts, float]:
        """Writes the file of a shard; gives what is in it, and the CPU seconds it took."""
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
    """An actor as the driver sees it; without a shard it is starting."""

    handle: Any
    shard: Shard | None = None
    pictures: int = 0
    moved: float = field(default_factory=time.monotonic)
    """When it was last known to have read something."""

    probe: Any = None


@contextmanager
def cluster(address: str | None, actors: int | None) -> Iterator[int]:
    """Joins a Ray cluster or starts one of this machine alone; gives the number of actors.

    One CPU stays free: on this machine it exists for Ray only; in a cluster the driver needs it.
    From then on SIGTERM raises KeyboardInterrupt, as Ctrl-C does.

    Args:
        address: of the cluster, `auto` for the one that this machine is a node of; None: start one.
        actors: how many there are to be; None: one for each other CPU.

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
    # Ray's own handler prints a stack of C++ and ends the process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if address is not None:
            number = actors or max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
        yield number
    finally:
        ray.shutdown()


class Driver:
    """Has the actors of the cluster that was joined read shards and write their files.

    Args:
        model: the content of the model file, so that no other machine needs it.
        patience: seconds to wait while there is not one worker, in which a cluster may add nodes.
        report: is called every second or more often.
        stalled_seconds: after which an actor that has read nothing is replaced.
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
        self._most_actors = actors
        self._patience = patience
        self._report = report
        self._stalled_seconds = stalled_seconds
        self._progress = Progress()
        self._waited_for: dict[Any, _Actor] = {}
        self._idle: list[_Actor] = []
        self._broken_starts = 0
        self._last_worker = self._last_probe = time.monotonic()

    def run(self) -> Progress:
        """Reads all shards; gives what became of them.

        Raises:
            RunError: there were no workers for longer than the patience, or none can start.
        """
        for _ in range(min(self._most_actors, len(self._queue))):
            self._start()
        while self._queue or any(actor.shard for actor in self._waited_for.values()):
            done, _ = ray.wait(list(self._waited_for), timeout=_LOOK_SECONDS)
            for reference in done:
                self._finished(reference)
            while self._queue and self._idle:
                self._dispatch(self._idle.pop())
            self._watch()
            self._report(self._progress)
        return self._progress

    def _start(self) -> None:
        actor = _Actor(self._make(*self._arguments))
        self._waited_for[actor.handle.ready.remote()] = actor

    def _dispatch(self, actor: _Actor) -> None:
        actor.shard = self._queue.popleft()
        actor.pictures, actor.moved = 0, time.monotonic()
        self._waited_for[actor.handle.read.remote(actor.shard)] = actor

    def _finished(self, reference: Any) -> None:
        actor = self._waited_for.pop(reference)
        shard, actor.shard = actor.shard, None
        try:
            result = ray.get(reference)
        except RayTaskError as error:
            self._idle.append(actor)
            self._try_again(shard, f"{error.cause}")
            return
        except RayError as error:  # the actor, or its node, or the memory there is
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
        """Replaces an actor that has ended by itself or with its node."""
        if shard is not None:
            self._try_again(shard, "the worker ended while it read this")
        else:
            self._broken_starts += 1
            if self._broken_starts > 2 * self._most_actors:
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
        """Notices when nothing goes on, which Ray itself does not say."""
        now = time.monotonic()
        busy = [actor for actor in self._waited_for.values() if actor.shard]
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
        """Learns how far an actor is; ends one that has stalled, which `_finished` then sees."""
        if actor.probe is not None and ray.wait([actor.probe], timeout=0)[0]:
            try:
                pictures = ray.get(actor.probe)
            except RayError:
                return  # it has died, as the result of its shard will say
            if pictures != actor.pictures:
                actor.pictures, actor.moved = pictures, now
            actor.probe = None
        if now - actor.moved > self._stalled_seconds:
            ray.kill(actor.handle)
        elif actor.probe is None:
            actor.probe = actor.handle.pictures.remote()


def _check_reachable(address: str | None) -> None:
    """Raises an OSError where nobody listens; Ray would try again for many minutes."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.removeprefix("ray://"), int(port)), _CONNECT_SECONDS).close()


def _cpus() -> str:
    """The CPUs of the cluster, in words."""
    every = ray.cluster_resources().get("CPU", 0)
    free = ray.available_resources().get("CPU", 0)
    return f"{free:g} of {every:g} CPUs are free"
