"""`make bench-lifecycle`: counts the requests that are lost when processes end under load.

The service is ended with SIGTERM many times, while requests arrive at 80 % of its capacity. Then,
at half of the capacity, one of two workers is killed (SIGKILL), and in another run frozen
(SIGSTOP). The figures are written to benchmarks/results/lifecycle.json, from which
`benchmarks.report` makes docs/performance.md.
"""

import argparse
import gc
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import measurement, payloads
from benchmarks.bars import Bar
from benchmarks.conditions import conditions, server_processors
from benchmarks.contenders import service
from benchmarks.latency import Summary
from benchmarks.load import UNANSWERED, LoadGenerator, Outcome
from benchmarks.servers import Recipe, Server, running
from benchmarks.serving import capacity_of, progress

RESULTS = Path("benchmarks/results/lifecycle.json")

_CONNECTIONS = 32
_TERMINATED_SHARE = 0.8
_WORKER_SHARE = 0.5
_AFTER_SECONDS = 1.0
_REPLACED_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Lost:
    """The number of requests that were sent completely and not answered."""

    before: int  # sent before the signal
    after: int  # sent after it, over a connection that was still open

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], signalled: float) -> "Lost":
        """Counts lost requests; a request that was not sent completely is refused, not lost."""
        sent = [o.sent for o in outcomes if o.status == UNANSWERED and o.sent < float("inf")]
        before = sum(moment <= signalled for moment in sent)
        return cls(before, len(sent) - before)


def terminate(
    recipe: Recipe, requests: Sequence[bytes], rate: float, delay: float, cpus: set[int]
) -> dict[str, Any]:
    """Ends a service with SIGTERM after `delay` seconds of load, and counts what was lost."""
    moments: list[float] = []

    def end(server: Server) -> None:
        moments.append(time.perf_counter())
        server.process.terminate()
        server.process.wait()
        moments.append(time.perf_counter())

    with running(recipe, cpus) as server:
        with LoadGenerator(server.address, requests, _CONNECTIONS) as load:
            load.closed_loop(0.3)
            timer = threading.Timer(delay, end, [server])
            timer.start()
            outcomes = load.open_loop(rate, delay + _AFTER_SECONDS)
        timer.join(20)
        status = server.process.poll()
    lost = Lost.of(outcomes, moments[0])
    return {
        "lost_before": lost.before,
        "lost_after": lost.after,
        "answered": sum(o.status == 200 for o in outcomes),
        "other": sum(o.status not in (200, 503, UNANSWERED) for o in outcomes),
        "exit_status": status,
        "exit_seconds": moments[1] - moments[0] if len(moments) > 1 else None,
    }


def workers(server: Server) -> set[int]:
    """The child processes that have loaded a model, found by their memory."""
    children = server.family()[1:]
    largest = max((child.resident_bytes for child in children), default=0)
    return {child.pid for child in children if 2 * child.resident_bytes > largest}


def strike(
    recipe: Recipe,
    requests: Sequence[bytes],
    rate: float,
    number: signal.Signals,
    cpus: set[int],
) -> dict[str, Any]:
    """Sends a signal to one of several workers under load, and measures the effect."""
    replaced: list[float] = []
    with running(recipe, cpus) as server:
        server.settle()
        before = workers(server)
        victim = min(before)

        def hit() -> None:
            os.kill(victim, number)
            started = time.perf_counter()
            while time.perf_counter() < started + _REPLACED_SECONDS:
                now = workers(server)
                if victim not in now and len(now) >= len(before):
                    replaced.append(time.perf_counter() - started)
                    return
                time.sleep(0.1)

        with LoadGenerator(server.address, requests, _CONNECTIONS) as load:
            load.closed_loop(0.5)
            timer = threading.Timer(1.0, hit)
            timer.start()
            outcomes = load.open_loop(rate, 10.0)
        timer.join()
        # Afterwards, all requests on new connections must be served.
        with LoadGenerator(server.address, requests, _CONNECTIONS) as load:
            afterwards = Summary.of(load.open_loop(rate, 2.0))
        survivors = len(workers(server) & (before - {victim}))
    return {
        "signal": number.name,
        "replaced_seconds": replaced[0] if replaced else None,
        "survivors": survivors,
        **Summary.of(outcomes).figures(),
        "afterwards": afterwards.figures(),
    }


def lifecycle_bars(figures: dict[str, Any]) -> list[Bar]:
    """The bars: no request is lost, and every worker is replaced."""
    runs, strikes = figures["terminated"], figures["struck"]
    bars = [
        Bar(
            f"requests lost in {len(runs)} runs, sent before SIGTERM",
            sum(run["lost_before"] for run in runs),
            0,
        ),
        Bar(
            "runs that did not end in good order",
            sum(run["exit_status"] != 0 for run in runs),
            0,
        ),
    ]
    for struck in strikes:
        after, name = struck["afterwards"], struck["signal"]
        failed = after["refused"]["count"] + sum(after["other"].values())
        bars.append(Bar(f"other workers that survive {name}", struck["survivors"], 1, True))
        bars.append(Bar(f"requests not served once {name} is over", failed, 0))
        seconds = struck["replaced_seconds"]
        bars.append(
            Bar(
                f"seconds until the worker is replaced after {name}",
                float("inf") if seconds is None else seconds,
                _REPLACED_SECONDS,
            )
        )
    return bars


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lifecycle", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/captcha.onnx"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=int, default=50, help="services that are ended with SIGTERM")
    parser.add_argument("--pin", action="store_true", help="one processor for the load only")
    arguments = parser.parse_args()
    gc.disable()  # a pause of the load generator would count as one of the server
    cpus = server_processors(arguments.pin)
    figures: dict[str, Any] = {"conditions": conditions(cpus), "terminated": [], "struck": []}
    requests = payloads.multipart(list(payloads.example_pictures().values()))
    recipe = service(arguments.model).recipe
    with running(recipe, cpus) as server:
        capacity = capacity_of(server, requests)
    rate = _TERMINATED_SHARE * capacity
    for run in range(arguments.runs):
        progress(f"SIGTERM, run {run + 1} of {arguments.runs}")
        # Each run ends at another point of the load.
        delay = 0.5 + 0.5 * run / arguments.runs
        figures["terminated"].append(terminate(recipe, requests, rate, delay, cpus))
    two = service(arguments.model, workers=2).recipe
    for number in (signal.SIGKILL, signal.SIGSTOP):
        progress(f"{number.name} to one of two workers")
        figures["struck"].append(strike(two, requests, _WORKER_SHARE * capacity, number, cpus))
    measurement.write(figures, arguments.out)


if __name__ == "__main__":
    measurement.run(main)
