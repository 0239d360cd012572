"""Compares the requests a second of this service and of its best peer, measured in turn.

Other load on the machine slows one server more than another: a server that keeps its cores busy
while it waits keeps them, and one that sleeps has to get them back. This load changes within
minutes, so the two servers are measured in turns of two seconds.

A turn begins when the other server is idle: by default, onnxruntime's threads go on spinning for
some 30 ms of CPU time after the last answer, at the cost of the next server.
"""

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks.contenders import SERVICE, Contender
from benchmarks.latency import Summary
from benchmarks.load import LoadGenerator
from benchmarks.payloads import MULTIPART
from benchmarks.servers import Server, ServerError, running

_WARM_UP_SECONDS = 1.0
_ROUND_SECONDS = 2.0


def best_peer(rows: Sequence[dict[str, Any]], processes: int) -> str | None:
    """The name of the server with the most requests a second, other than this service."""
    peers = [row for row in rows if row["server"] != SERVICE and row["processes"] == processes]
    best = max(peers, key=lambda row: row["pace"], default=None)
    return best["server"] if best else None


def opponents(
    contenders: Sequence[Contender], rows: Sequence[dict[str, Any]]
) -> list[tuple[Contender, Contender]]:
    """Pairs of this service and its best peer, one for each number of processes.

    Args:
        rows: figures of the contenders, by which the best one is found.
    """
    by_name = {(each.recipe.name, each.processes): each for each in contenders}
    return [
        (own, by_name[peer, own.processes])
        for own in contenders
        if own.recipe.name == SERVICE and (peer := best_peer(rows, own.processes))
    ]


def duel(
    own: Contender, peer: Contender, requests: Sequence[bytes], rounds: int, cpus: set[int]
) -> dict[str, Any]:
    """Loads both servers in turn, in closed loops of equal length.

    Raises:
        ServerError: a server did not start, or accepted nothing in a round.
    """
    rates: list[list[float]] = []
    with ExitStack() as stack:
        sides = []
        for contender in (own, peer):
            server = stack.enter_context(running(contender.recipe, cpus))
            server.settle()
            load = stack.enter_context(
                LoadGenerator(server.address, requests, MULTIPART.connections)
            )
            _turn(server, load, _WARM_UP_SECONDS)
            sides.append((server, load))
        for _ in range(rounds):
            rates.append([_turn(server, load, _ROUND_SECONDS) for server, load in sides])
    if not all(all(pair) for pair in rates):
        raise ServerError(f"{own.name} or {peer.name} accepted no request in a round")
    ratios = [ours / theirs for ours, theirs in rates]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "processes": own.processes,
        "peer": peer.recipe.name,
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [quartiles[0], quartiles[2]],
        "requests_per_second": [statistics.median(side) for side in zip(*rates, strict=True)],
    }


def _turn(server: Server, load: LoadGenerator, seconds: float) -> float:
    """Requests a second of a server in one closed loop; it is idle again afterwards."""
    answered = load.closed_loop(seconds)
    server.settle()
    return Summary.of(answered).goodput
