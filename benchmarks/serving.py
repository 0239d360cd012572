"""`make bench`: measures the cost of serving beside that of the model, and latency under load.

Servers run one after the other. For each, rounds of a closed loop alternate with rounds of a bare
`session.run`. The figures of servers are compared as multiples of the `session.run`, so that other
load on the machine slows both sides of a ratio alike. Rounds of open loops at shares of the
capacity then show the latency. At the end, the service and its best peer take turns. The figures
are written to benchmarks/results/serving.json, from which `benchmarks.report` makes
docs/performance.md and its chart.
"""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import measurement, payloads
from benchmarks.conditions import conditions, server_processors
from benchmarks.connection import exchange
from benchmarks.contenders import SERVICE, Contender, fast_peers, service, slow_peers
from benchmarks.duels import duel, opponents
from benchmarks.latency import Summary, tail_ratio
from benchmarks.load import LoadGenerator, Outcome
from benchmarks.payloads import Payload
from benchmarks.reference import BareSession, start_times
from benchmarks.servers import Server, ServerError, running

RESULTS = Path("benchmarks/results/serving.json")
SHARES = (0.25, 0.5, 0.8, 0.95)
"""Shares of the capacity at which requests arrive in the open loops."""

_OPEN_CONNECTIONS = 128
_WARM_UP_SECONDS = 1.0
_ROUND_SECONDS = 1.0
_OPEN_SECONDS = 2.0
_BARE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Effort:
    """The number of rounds that are measured.

    Args:
        rounds: rounds of the closed loop, one second each.
        open_rounds: rounds of the open loops, two seconds at each share of the capacity.
    """

    rounds: int
    open_rounds: int


def progress(text: str) -> None:
    """Prints progress to the standard error."""
    print(text, file=sys.stderr, flush=True)


def reads(server: Server, requests: Sequence[bytes], texts: Sequence[str]) -> bool:
    """Whether the server answers the first request with these texts; if not, prints the answer."""
    status, body = exchange(server.address, requests[0])
    if status == 200 and all(text.encode() in body for text in texts):
        return True
    progress(f"    answered with {status}: {body[:200]!r}")
    return False


def capacity_of(server: Server, requests: Sequence[bytes], seconds: float = 4.0) -> float:
    """The capacity: answers with 200 a second in a closed loop."""
    with LoadGenerator(server.address, requests, payloads.MULTIPART.connections) as load:
        load.closed_loop(_WARM_UP_SECONDS)
        return Summary.of(load.closed_loop(seconds)).goodput


def cost(
    server: Server, requests: Sequence[bytes], payload: Payload, bare: BareSession, rounds: int
) -> dict[str, Any]:
    """CPU time and rate in a closed loop, divided by those of the bare session.

    Raises:
        ServerError: no request was accepted in a round.
    """
    measured: list[dict[str, float]] = []
    outcomes: list[Outcome] = []
    with LoadGenerator(server.address, requests, payload.connections) as load:
        load.closed_loop(_WARM_UP_SECONDS)
        earlier = _bare_figures(bare)
        for _ in range(rounds):
            before = server.cpu_seconds()
            answered = load.closed_loop(_ROUND_SECONDS)
            used = server.cpu_seconds() - before
            later = _bare_figures(bare)
            summary = Summary.of(answered)
            if not summary.accepted.count:
                raise ServerError(f"it accepted none of {len(answered)} requests")
            outcomes += answered
            cpu_ms = 1000 * used / (payload.pictures * summary.accepted.count)
            around = {name: (earlier[name] + later[name]) / 2 for name in later}
            measured.append(_beside(around, cpu_ms, payload.pictures, summary.goodput))
            earlier = later
    quartiles = statistics.quantiles((figures["cpu_ratio"] for figures in measured), n=4)
    return {
        **{name: statistics.median(r[name] for r in measured) for name in measured[0]},
        "cpu_ratio_quartiles": [quartiles[0], quartiles[2]],
        "closed_loop": Summary.of(outcomes).figures(),
    }


def _bare_figures(bare: BareSession) -> dict[str, float]:
    alone = bare.cpu_ms(_BARE_SECONDS)
    most, busy = bare.on_all_cores(_BARE_SECONDS)
    return {"alone_ms": alone, "busy_ms": busy, "most": most}


def _beside(
    bare: Mapping[str, float], cpu_ms: float, pictures: int, rate: float
) -> dict[str, float]:
    """One round's CPU time of a picture and requests a second, divided by those of the session."""
    return {
        "cpu_ms_a_picture": cpu_ms,
        "session_run_cpu_ms": bare["alone_ms"],
        "cpu_ratio": cpu_ms / bare["alone_ms"],
        "cpu_ratio_all_cores": cpu_ms / bare["busy_ms"],
        "requests_per_second": rate,
        "pace": pictures * rate / bare["most"],
    }


def under_load(
    server: Server, requests: Sequence[bytes], capacity: float, rounds: int
) -> list[dict[str, Any]]:
    """Latencies in open loops at shares of the capacity, which is in requests a second."""
    outcomes: dict[float, list[list[Outcome]]] = {share: [] for share in SHARES}
    with LoadGenerator(server.address, requests, _OPEN_CONNECTIONS) as load:
        for _ in range(rounds):
            for share, of_share in outcomes.items():
                of_share.append(load.open_loop(share * capacity, _OPEN_SECONDS))
    loads = []
    for share, of_share in outcomes.items():
        every = Summary.of([outcome for of_round in of_share for outcome in of_round])
        figures = {"accepted": asdict(every.accepted), "tail_ratio": tail_ratio(of_share)}
        loads.append({"share": share, "rate": share * capacity, **figures})
    return loads


def measure(
    contender: Contender,
    bare: BareSession,
    pictures: Mapping[str, bytes],
    effort: Effort,
    cpus: set[int],
) -> list[dict[str, Any]]:
    """All figures of one server, one row for each way of sending pictures.

    Raises:
        ServerError: the server did not start, or misreads pictures.
    """
    rows = []
    texts, files = list(pictures), list(pictures.values())
    with running(contender.recipe, cpus) as server:
        server.settle()
        for payload in contender.payloads:
            progress(f"  {payload.name}")
            requests = payload.requests(files)
            if not reads(server, requests, texts[: payload.pictures]):
                raise ServerError(f"it misreads pictures sent as {payload.name}")
            figures = cost(server, requests, payload, bare, effort.rounds)
            loads = []
            if payload.pictures == 1 and payload.connections > 1:
                capacity = figures["requests_per_second"]
                loads = under_load(server, requests, capacity, effort.open_rounds)
            sizes = [process.resident_bytes / 2**20 for process in server.family()]
            rows.append(
                {
                    "server": contender.recipe.name,
                    "processes": contender.processes,
                    "payload": payload.name,
                    **figures,
                    "open_loop": loads,
                    "resident_mib_largest": max(sizes),
                    "resident_mib_all": sum(sizes),
                }
            )
    return rows


def compare(
    contenders: Sequence[Contender], model: Path, effort: Effort, cpus: set[int]
) -> dict[str, Any]:
    """Rows of the contenders, duels with the best peers, and what was skipped and why."""
    rows, duels, skipped = [], [], []
    pictures = payloads.example_pictures()
    bare = BareSession(model, list(pictures.values()), cpus)
    began = time.perf_counter()
    for contender in contenders:
        if contender.absent:
            progress(f"{contender.name}: {contender.absent}")
            skipped.append(f"{contender.name}: {contender.absent}")
            continue
        progress(f"{contender.name}, after {time.perf_counter() - began:.0f} s")
        try:
            rows += measure(contender, bare, pictures, effort, cpus)
        except ServerError as error:
            progress(str(error))
            skipped.append(str(error).splitlines()[0])
    requests = payloads.MULTIPART.requests(list(pictures.values()))
    for own, peer in opponents(contenders, rows):
        progress(f"{own.name} and {peer.name} in turn")
        try:
            duels.append(duel(own, peer, requests, 2 * effort.rounds, cpus))
        except ServerError as error:
            progress(str(error))
            skipped.append(str(error).splitlines()[0])
    return {"rows": rows, "duels": duels, "skipped": skipped}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/captcha.onnx"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--rounds", type=int, default=8, help="rounds of the closed loop, 1 s each")
    parser.add_argument(
        "--open-rounds", type=int, default=5, help="rounds of open loops, 2 s a load"
    )
    parser.add_argument(
        "--peers", action="store_true", help="also measure peers that need more packages"
    )
    parser.add_argument("--pin", action="store_true", help="one processor for the load only")
    arguments = parser.parse_args()
    gc.disable()  # a pause of the load generator would count as one of the server
    cpus = server_processors(arguments.pin)
    LoadGenerator.spins = arguments.pin
    figures: dict[str, Any] = {"conditions": conditions(cpus)}
    progress(f"start of {SERVICE}")
    ready, loaded = start_times(service(arguments.model).recipe, arguments.model, 5)
    figures["start"] = {"ready_seconds": ready, "libraries_and_model_seconds": loaded}
    contenders = [service(arguments.model, workers) for workers in (1, 2)]
    contenders += fast_peers(arguments.model)
    contenders += slow_peers(arguments.model) if arguments.peers else []
    effort = Effort(arguments.rounds, arguments.open_rounds)
    figures |= compare(contenders, arguments.model, effort, cpus)
    if not arguments.peers:
        figures["skipped"].append("Keras, LitServe and BentoML: `make bench-peers` measures them")
    measurement.write(figures, arguments.out)


if __name__ == "__main__":
    measurement.run(main)
