"""`make bench-overload`: what becomes of the requests that are more than can be served.

Requests arrive at multiples of the capacity, in an open loop, while the health endpoints are asked
all the time from processes and connections of their own. Rounds of that alternate with closed
loops, seconds of each, that find the capacity: the goodput of a round is compared with the mean of
that before it and that behind it, so that a machine that is not always as fast slows both alike.
Behind the last round comes half the capacity, until the latency is what it was. At last come
closed loops of more clients than are served. The figures go to benchmarks/results/overload.json,
of which `benchmarks.report` makes docs/performance.md.
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
"""By the multiple of the capacity, the share of the peak that is to be kept."""

PROBED = ("/health/live", "/health/ready")

INSISTENT = (64, 500)
"""Clients that ask again as soon as they are answered, also when they are refused."""

_INSISTENT_ROUNDS = 3
_CONNECTIONS = 500
_LOAD_SECONDS = 2.0
_PEAK_SECONDS = 2.0
_PROBED_SECONDS = 6.5
"""Of each round: those above, the closed loop's warming up, and coming to rest."""

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
    server: Server, requests: Sequence[bytes], multiple: float, rounds: int, bound_ms: float
) -> dict[str, Any]:
    """Rounds of one overload, and the recovery from another one."""

    def arrive(peak: float) -> list[Outcome]:
        with LoadGenerator(server.address, requests, _CONNECTIONS) as load:
            server.settle()  # having taken the connections
            return load.open_loop(multiple * peak, _LOAD_SECONDS)

    with probing(server.address, rounds * _PROBED_SECONDS) as probes:
        figures = beside_peak(server, requests, rounds, arrive)
        asked = {path: future.result() for path, future in probes.items()}
    peak = figures["peak"]
    last = max(outcome.scheduled for outcome in arrive(peak))
    # What is still being waited for counts as not recovered.
    recovery = recovery_seconds(half_load(server, requests, peak), last, bound_ms)
    return {"multiple": multiple, "probes": asked, "recovery_seconds": recovery, **figures}


def insistence(
    server: Server, requests: Sequence[bytes], clients: int, rounds: int
) -> dict[str, Any]:
    """Rounds of so many clients that do not wait, as Retry-After tells them."""

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
    """What becomes of a load, and its goodput beside that of closed loops in turn with it.

    Args:
        load: makes it once, given the requests a second that can be served.
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
    """The bars of overload: the goodput of each load above the capacity, else the worst of all."""
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
    parser.add_argument("--rounds", type=int, default=9, help="of each overload, 2 s each")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pin", action="store_true", help="a processor for the load alone")
    arguments = parser.parse_args()
    gc.disable()  # a pause of the generator's would be counted as the server's
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
