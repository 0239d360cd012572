"""`make bench-overload`: what becomes of the requests that are more than can be served.

A closed loop finds the capacity. Then requests arrive at multiples of it, in an open loop, while
the health endpoints are asked all the time from processes and connections of their own. Behind
each overload comes half the capacity again, until the latency is what it was. The capacity is
measured again between the overloads: what each of them is compared with is the mean of that before
it and that behind it, and of several rounds the median counts, on a machine that is not always as
fast. The figures go to benchmarks/results/overload.json, of which `benchmarks.report` makes
docs/performance.md.
"""

import argparse
import gc
import multiprocessing
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import measurement, payloads
from benchmarks.bars import Bar
from benchmarks.conditions import conditions, server_processors
from benchmarks.connection import Address
from benchmarks.contenders import service
from benchmarks.latency import Summary, recovery_seconds, windows_p99
from benchmarks.load import LoadGenerator, Outcome
from benchmarks.servers import Server, running
from benchmarks.serving import capacity_of, progress, reads

RESULTS = Path("benchmarks/results/overload.json")
MULTIPLES = (1.0, 2.0, 5.0, 10.0)
PROBED = ("/health/live", "/health/ready")

_ROUNDS = 3
_CONNECTIONS = 500
_BASE_SHARE = 0.5
_PROBES_A_SECOND = 20.0
_RECOVERY_SECONDS = 8.0
_TOLERANCE = 2.0
"""The p99 is what it was when it is within the base's, of its worst second, times this."""


def probe(address: Address, path: str, seconds: float) -> dict[str, Any]:
    """Asks for a path at a constant rate, on two connections."""
    with LoadGenerator(address, [payloads.get(path)], 2) as load:
        return Summary.of(load.open_loop(_PROBES_A_SECOND, seconds)).figures()


@contextmanager
def probing(address: Address, seconds: float) -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """Probes every health endpoint, each from a process of its own, as long as the load lasts."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(PROBED), context) as pool:
        # Started before the clock of the load does.
        list(pool.map(abs, range(len(PROBED))))
        yield {path: pool.submit(probe, address, path, seconds) for path in PROBED}


def half_load(server: Server, requests: Sequence[bytes], capacity: float) -> list[Outcome]:
    """The outcomes of a load that the service carries with ease."""
    with LoadGenerator(server.address, requests, 64) as load:
        return load.open_loop(_BASE_SHARE * capacity, _RECOVERY_SECONDS)


def overload(
    server: Server,
    requests: Sequence[bytes],
    capacity: float,
    multiple: float,
    seconds: float,
    bound_ms: float,
) -> dict[str, Any]:
    """One overload and the recovery from it."""
    rate = multiple * capacity
    with probing(server.address, seconds) as probes:
        with LoadGenerator(server.address, requests, _CONNECTIONS) as load:
            outcomes = load.open_loop(rate, seconds)
        figures = {path: future.result() for path, future in probes.items()}
    # What is still being waited for counts as not recovered.
    last = max(outcome.scheduled for outcome in outcomes)
    recovery = recovery_seconds(half_load(server, requests, capacity), last, bound_ms)
    return {
        "multiple": multiple,
        "rate": rate,
        **Summary.of(outcomes).figures(),
        "probes": figures,
        "recovery_seconds": recovery,
    }


def overload_bars(figures: dict[str, Any]) -> list[Bar]:
    """The bars of overload: the worst of all loads above the capacity.

    Of the goodput it is the worst of the medians over the rounds.
    """
    loads = [load for load in figures["loads"] if load["multiple"] > 1]
    refusals = [load["refused"]["p99"] for load in loads if load["refused"]["p99"] is not None]
    recoveries = [load["recovery_seconds"] for load in loads]
    healthy = [load["probes"][path] for load in loads for path in PROBED]
    unhealthy = any(p["refused"]["count"] or p["other"] for p in healthy)
    shares: dict[float, list[float]] = {}
    for load in loads:
        shares.setdefault(load["multiple"], []).append(load["goodput"] / load["peak"])
    worst = float("inf") if unhealthy else max(p["accepted"]["worst"] for p in healthy)
    return [
        Bar(
            "goodput beyond capacity ÷ the peak",
            min(map(statistics.median, shares.values())),
            0.9,
            at_least=True,
        ),
        Bar("p99 of refused requests, ms", max(refusals, default=None), 100),
        Bar("worst answer of a health endpoint, ms", worst, 100),
        Bar("requests neither accepted nor refused", sum(_others(load) for load in loads), 0),
        Bar(
            "seconds until the base's p99 is back",
            float("inf") if None in recoveries else max(recoveries),
            5,
        ),
    ]


def _others(load: dict[str, Any]) -> int:
    return sum(load["other"].values())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/captcha.onnx"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seconds", type=float, default=5, help="of each overload")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pin", action="store_true", help="a processor for the load alone")
    arguments = parser.parse_args()
    gc.disable()  # a pause of the generator's would be counted as the server's
    cpus = server_processors(arguments.pin)
    figures: dict[str, Any] = {"conditions": conditions(cpus), "probed": PROBED}
    pictures = payloads.example_pictures()
    with running(service(arguments.model, arguments.workers).recipe, cpus) as server:
        server.settle()
        payload = payloads.RAW
        if not reads(server, payload.requests(list(pictures.values())), list(pictures)[:1]):
            payload = payloads.MULTIPART
        requests = payload.requests(list(pictures.values()))
        progress(f"capacity, {payload.name}")
        peak = capacity_of(server, requests)
        progress("base")
        bound_ms = _TOLERANCE * max(windows_p99(half_load(server, requests, peak)).values())
        figures |= {"payload": payload.name, "bound_ms": bound_ms, "loads": []}
        for multiple in MULTIPLES * _ROUNDS:
            progress(f"{multiple:g} × {peak:.0f} requests/s")
            load = overload(server, requests, peak, multiple, arguments.seconds, bound_ms)
            before, peak = peak, capacity_of(server, requests)
            figures["loads"].append(load | {"peak": (before + peak) / 2})
    measurement.write(figures, arguments.out)


if __name__ == "__main__":
    measurement.run(main)
