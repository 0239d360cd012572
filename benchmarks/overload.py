"""`make bench-overload`: measures the service with more requests than it can serve.

Requests arrive at multiples of the capacity, in an open loop. Meanwhile other processes ask the
health endpoints on connections of their own. These rounds alternate with closed loops of some
seconds, which measure the capacity: the goodput of a round is compared with the mean of the closed
loops before and after it, so that changes in the speed of the machine affect both alike. After the
last round, requests arrive at half the capacity until the latency is back to normal. At the end
come closed loops of more clients than can be served. The figures are written to
benchmarks/results/overload.json, from which `benchmarks.report` makes docs/performance.md.
"""

import argparse
import gc
import multiprocessing
import statistics
from collections.abc import Callable, Iterator, Sequence
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
GOODPUT = {2.0: 0.9, 5.0: 0.85, 10.0: 0.75}
"""The bars of goodput, as a share of the peak, by the multiple of the capacity."""

PROBED = ("/health/live", "/health/ready")

INSISTENT = (64, 500)
"""Numbers of clients that ask again as soon as they are answered, also when they are refused."""

_INSISTENT_ROUNDS = 3
_CONNECTIONS = 500
_LOAD_SECONDS = 2.0
_PEAK_SECONDS = 2.0
_PROBED_SECONDS = 6.5
"""Length of a round: load, closed loop, its warm-up, and the wait until the server is idle."""

_BASE_SHARE = 0.5
_PROBES_A_SECOND = 20.0
_RECOVERY_SECONDS = 8.0
_TOLERANCE = 2.0
"""The latency is back to normal when the p99 is within this multiple of the base's worst second."""


def probe(address: Address, path: str, seconds: float) -> dict[str, Any]:
    """Requests a path at a constant rate, on two connections."""
    with LoadGenerator(address, [payloads.get(path)], 2) as load:
        return Summary.of(load.open_loop(_PROBES_A_SECOND, seconds)).figures()


@contextmanager
def probing(address: Address, seconds: float) -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """Probes every health endpoint for `seconds`, each from a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(PROBED), context) as pool:
        # The processes start before the load does.
        list(pool.map(abs, range(len(PROBED))))
        yield {path: pool.submit(probe, address, path, seconds) for path in PROBED}


def half_load(server: Server, requests: Sequence[bytes], capacity: float) -> list[Outcome]:
    """The outcomes of a load at half the capacity, which the service handles with ease."""
    with LoadGenerator(server.address, requests, 64) as load:
        return load.open_loop(_BASE_SHARE * capacity, _RECOVERY_SECONDS)


def overload(
    server: Server, requests: Sequence[bytes], multiple: float, rounds: int, bound_ms: float
) -> dict[str, Any]:
    """Measures rounds of an overload, and the recovery from one more."""

    def arrive(peak: float) -> list[Outcome]:
        with LoadGenerator(server.address, requests, _CONNECTIONS) as load:
            server.settle()  # the server has accepted the connections
            return load.open_loop(multiple * peak, _LOAD_SECONDS)

    with probing(server.address, rounds * _PROBED_SECONDS) as probes:
        figures = beside_peak(server, requests, rounds, arrive)
        asked = {path: future.result() for path, future in probes.items()}
    peak = figures["peak"]
    last = max(outcome.scheduled for outcome in arrive(peak))
    # Requests that still wait count as not recovered.
    recovery = recovery_seconds(half_load(server, requests, peak), last, bound_ms)
    return {"multiple": multiple, "probes": asked, "recovery_seconds": recovery, **figures}


def insistence(
    server: Server, requests: Sequence[bytes], clients: int, rounds: int
) -> dict[str, Any]:
    """Measures rounds of clients that do not wait, though Retry-After tells them to."""

    def ask(_: float) -> list[Outcome]:
        with LoadGenerator(server.address, requests, clients) as load:
            server.settle()
            return load.closed_loop(_LOAD_SECONDS)

    return {"clients": clients, **beside_peak(server, requests, rounds, ask)}


def beside_peak(
    server: Server,
    requests: Sequence[bytes],
    rounds: int,
    load: Callable[[float], list[Outcome]],
) -> dict[str, Any]:
    """Measures a load, in turn with closed loops, and its goodput as a share of theirs.

    Args:
        load: makes the load once, given the capacity in requests a second.
    """
    outcomes: list[Outcome] = []
    shares = []
    peaks = [capacity_of(server, requests, _PEAK_SECONDS)]
    for _ in range(rounds):
        answered = load(peaks[-1])
        peaks.append(capacity_of(server, requests, _PEAK_SECONDS))
        shares.append(Summary.of(answered).goodput / statistics.mean(peaks[-2:]))
        outcomes += answered
    figures = Summary.of(outcomes).figures()
    del figures["goodput"]  # the rounds have pauses between them
    quartiles = statistics.quantiles(shares, n=4)
    return {
        "peak": statistics.median(peaks),
        "share": statistics.median(shares),
        "share_quartiles": [quartiles[0], quartiles[2]],
        **figures,
    }


def overload_bars(figures: dict[str, Any]) -> list[Bar]:
    """The bars of overload: the goodput of each load, and the worst of the other figures.

    Loads up to the capacity do not count.
    """
    loads = [load for load in figures["loads"] if load["multiple"] > 1]
    refusals = [load["refused"]["p99"] for load in loads if load["refused"]["p99"] is not None]
    recoveries = [load["recovery_seconds"] for load in loads]
    healthy = [load["probes"][path] for load in loads for path in PROBED]
    unhealthy = any(p["refused"]["count"] or p["other"] for p in healthy)
    worst = float("inf") if unhealthy else max(p["accepted"]["worst"] for p in healthy)
    return [
        *(
            Bar(
                f"goodput at {load['multiple']:g} × the capacity ÷ the peak",
                load["share"],
                GOODPUT[load["multiple"]],
                at_least=True,
            )
            for load in loads
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
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each overload, 2 s each")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pin", action="store_true", help="one processor for the load only")
    arguments = parser.parse_args()
    gc.disable()  # a pause of the load generator would count as one of the server
    cpus = server_processors(arguments.pin)
    LoadGenerator.spins = arguments.pin
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
        for multiple in MULTIPLES:
            progress(f"{multiple:g} × the capacity")
            load = overload(server, requests, multiple, arguments.rounds, bound_ms)
            figures["loads"].append(load)
        progress("clients that do not wait")
        figures["insistent"] = [
            insistence(server, requests, clients, _INSISTENT_ROUNDS) for clients in INSISTENT
        ]
    measurement.write(figures, arguments.out)


if __name__ == "__main__":
    measurement.run(main)
