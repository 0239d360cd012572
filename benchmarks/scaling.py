"""`make bench-scaling`: measures a picture with one process, two workers, and three instances.

Each set-up answers rounds of a closed loop, in turn with a bare `session.run`, as in
`benchmarks.serving`. The instances are behind HAProxy with deploy/haproxy.cfg. Requests to them
also arrive at a constant rate while one instance has a tenth of its CPU time. For comparison, Ray
Serve runs with two workers, where it needs less for a picture than with one. The figures are
written to benchmarks/results/scaling.json, and from there to docs/scaling.md.
"""

import argparse
import gc
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

from typing_extensions import override

from benchmarks import measurement, payloads
from benchmarks.conditions import conditions, server_processors
from benchmarks.contenders import Contender, ray_serve, service
from benchmarks.latency import Summary, percentile
from benchmarks.load import LoadGenerator
from benchmarks.payloads import MULTIPART
from benchmarks.reference import BareSession
from benchmarks.servers import ProcessStat, Recipe, Server, ServerError, running
from benchmarks.serving import cost, progress, reads

RESULTS = Path("benchmarks/results/scaling.json")
BALANCED = "3 instances behind HAProxy"

_HAPROXY = Path("deploy/haproxy.cfg")
_INSTANCES = 3
_SLOW_RATE = 100.0
"""Requests a second while one instance is slow."""
_SLOW_SECONDS = 8.0
_SLOW_CONNECTIONS = 64


class Balanced(Server):
    """HAProxy and the instances behind it, as one server."""

    def __init__(self, proxy: Server, instances: list[Server]) -> None:
        super().__init__(proxy.process, proxy.address)
        self.proxy = proxy
        self.instances = instances

    @override
    def family(self) -> list[ProcessStat]:
        return [one for server in (self.proxy, *self.instances) for one in server.family()]


@contextmanager
def balanced(
    instance: Recipe, number: int, cpus: set[int], algorithm: str = "leastconn"
) -> Iterator[Balanced]:
    """Runs `number` instances behind HAProxy.

    Args:
        algorithm: HAProxy's algorithm of balancing; the default is that of deploy/haproxy.cfg.

    Raises:
        ServerError: HAProxy is missing, or an instance did not start.
    """
    with ExitStack() as stack:
        instances = [stack.enter_context(running(instance, cpus)) for _ in range(number)]
        servers = "\n".join(
            f"    server ocr{place} {server.address.host}:{server.address.port}"
            for place, server in enumerate(instances)
        )
        text = re.sub(
            r"^    server-template .*$", servers, _HAPROXY.read_text(), flags=re.MULTILINE
        )
        text = text.replace("balance leastconn", f"balance {algorithm}")
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "haproxy.cfg"
        file.write_text(text.replace("bind :8080", 'bind "127.0.0.1:${PORT}"'))
        recipe = Recipe("HAProxy", ["haproxy", "-db", "-f", str(file)], {"PORT": "{port}"})
        try:
            proxy = stack.enter_context(running(recipe, cpus))
        except FileNotFoundError:
            raise ServerError("haproxy is missing; apt-get install haproxy") from None
        yield Balanced(proxy, instances)


@contextmanager
def slowed(process: Popen[Any]) -> Iterator[None]:
    """Lets a process run for only a tenth of the time."""
    ended = threading.Event()

    def slow() -> None:
        while not ended.is_set():
            process.send_signal(signal.SIGSTOP)
            ended.wait(0.09)
            process.send_signal(signal.SIGCONT)
            ended.wait(0.01)

    slowing = threading.Thread(target=slow)
    slowing.start()
    try:
        yield
    finally:
        ended.set()
        slowing.join()


def row(name: str, server: Server, bare: BareSession, rounds: int) -> dict[str, Any]:
    """The cost of a picture in one set-up.

    Raises:
        ServerError: the server misreads pictures.
    """
    pictures = payloads.example_pictures()
    requests = MULTIPART.requests(list(pictures.values()))
    server.settle()
    if not reads(server, requests, list(pictures)[:1]):
        raise ServerError(f"{name} misreads pictures")
    proxy = server.proxy if isinstance(server, Balanced) else None
    before = (proxy.cpu_seconds(), server.cpu_seconds()) if proxy else (0.0, 0.0)
    figures = cost(server, requests, MULTIPART, bare, rounds)
    share = None
    if proxy:
        of_proxy, of_all = proxy.cpu_seconds() - before[0], server.cpu_seconds() - before[1]
        share = of_proxy / of_all
    return {
        "server": name,
        "cpu_ratio": figures["cpu_ratio"],
        "cpu_ratio_quartiles": figures["cpu_ratio_quartiles"],
        "proxy_share": share,
        "requests_per_second": figures["requests_per_second"],
        "resident_mib": sum(process.resident_bytes for process in server.family()) / 2**20,
    }


def with_a_slow_instance(server: Balanced, algorithm: str) -> dict[str, Any]:
    """Measures requests at a constant rate while one of the instances is slow.

    Raises:
        ServerError: the instances do not become idle.
    """
    requests = MULTIPART.requests(list(payloads.example_pictures().values()))
    server.settle()
    with (
        slowed(server.instances[0].process),
        LoadGenerator(server.address, requests, _SLOW_CONNECTIONS) as load,
    ):
        outcomes = load.open_loop(_SLOW_RATE, _SLOW_SECONDS)
    read = [1000 * outcome.latency for outcome in outcomes if outcome.status == 200]
    return {
        "algorithm": algorithm,
        "rate": _SLOW_RATE,
        "goodput": Summary.of(outcomes).goodput,
        "not_read": len(outcomes) - len(read),
        "p95_ms": percentile(read, 0.95),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/captcha.onnx"))
    parser.add_argument("--rounds", type=int, default=6, help="rounds of the closed loop, 1 s each")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    gc.disable()  # a pause of the load generator would count as one of the server
    cpus = server_processors(pin=False)
    measured = conditions(cpus)
    bare = BareSession(arguments.model, list(payloads.example_pictures().values()), cpus)
    one, two = (service(arguments.model, workers) for workers in (1, 2))
    _, peer = ray_serve(arguments.model)
    contenders: list[Contender] = [one, two, peer]
    rows, slow, skipped = [], [], []
    for contender in contenders:
        if contender.absent:
            progress(f"{contender.name}: {contender.absent}")
            skipped.append(f"{contender.name}: {contender.absent}")
            continue
        progress(contender.name)
        with running(contender.recipe, cpus) as server:
            rows.append(row(contender.name, server, bare, arguments.rounds))
        if contender is two:
            progress(BALANCED)
            with balanced(one.recipe, _INSTANCES, cpus) as instances:
                rows.append(row(BALANCED, instances, bare, arguments.rounds))
                progress("one of them slow")
                slow.append(with_a_slow_instance(instances, "leastconn"))
    with balanced(one.recipe, _INSTANCES, cpus, "roundrobin") as instances:
        slow.append(with_a_slow_instance(instances, "roundrobin"))
    figures = {"conditions": measured, "rows": rows, "slow": slow, "skipped": skipped}
    measurement.write(figures, arguments.out)


if __name__ == "__main__":
    measurement.run(main)
