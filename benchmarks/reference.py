"""The reference for the cost of a request: a bare `session.run` of the model, on one thread."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.servers import ROOT, Recipe, running
from service.ocr.recognizer import Recognizer

_LOAD = """
import sys, onnxruntime, fastapi
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print("loaded", flush=True)
"""


class BareSession:
    """Runs the model on tensors that are prepared in advance; nothing else is done.

    Args:
        cpus: the processors that the servers may use.
    """

    def __init__(self, model: Path, pictures: Sequence[bytes], cpus: set[int]) -> None:
        self._recognizer = Recognizer.load(model)
        self._tensors = [self._recognizer.preprocess(p).tensor[np.newaxis] for p in pictures]
        self._cpus = cpus
        self.cpu_ms(0.2)

    def _run(self, seconds: float) -> int:
        """Runs the model for `seconds`, and counts the runs."""
        runs, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            self._recognizer.infer(self._tensors[runs % len(self._tensors)])
            runs += 1
        return runs

    def cpu_ms(self, seconds: float) -> float:
        """CPU milliseconds of a run: the mean over about `seconds`."""
        started = time.thread_time()
        runs = self._run(seconds)
        return 1000 * (time.thread_time() - started) / runs

    def on_all_cores(self, seconds: float) -> tuple[float, float]:
        """Measures the machine's current speed, with a thread on each of the servers' processors.

        Returns:
            Runs a second, and CPU milliseconds of a run. The latter is more than `cpu_ms` if cores
            share caches or have other work.
        """

        def run(cpu: int) -> tuple[int, float]:
            os.sched_setaffinity(0, {cpu})  # for this thread only
            started = time.thread_time()
            return self._run(seconds), time.thread_time() - started

        with ThreadPoolExecutor(len(self._cpus)) as pool:
            started = time.perf_counter()
            runs, cpu_seconds = zip(*pool.map(run, self._cpus), strict=True)
            elapsed = time.perf_counter() - started
        return sum(runs) / elapsed, 1000 * sum(cpu_seconds) / sum(runs)


def start_times(recipe: Recipe, model: Path, rounds: int) -> tuple[float, float]:
    """Seconds until a server is ready, and until only its libraries and the model are loaded.

    Returns:
        Medians over the rounds; each round measures both once.
    """
    ready, loaded = [], []
    for _ in range(rounds):
        with running(recipe) as server:
            ready.append(server.ready_seconds)
        loaded.append(_load_seconds(model))
    return statistics.median(ready), statistics.median(loaded)


def _load_seconds(model: Path) -> float:
    started = time.perf_counter()
    command = [sys.executable, "-c", _LOAD, str(model)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"onnxruntime could not load {model}; see above.")
        return time.perf_counter() - started
