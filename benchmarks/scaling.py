"""`make bench-scaling`: what a picture costs with one process, two workers, and three instances.

Each set-up answers rounds of a closed loop, in turn with a bare `session.run`, as in
`benchmarks.serving`; HAProxy runs with deploy/haproxy.cfg. Ray Serve is beside them where
`make bench-peers` has installed it. Prints the table of docs/scaling.md.
"""

import argparse
import gc
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from typing_extensions import override

from benchmarks import measurement, payloads
from benchmarks.conditions import conditions, server_processors
from benchmarks.contenders import Contender, ray_serve, service
from benchmarks.markdown import measured_under, number, table
from benchmarks.payloads import MULTIPART
from benchmarks.reference import BareSession
from benchmarks.servers import ProcessStat, Recipe, Server, ServerError, running
from benchmarks.serving import cost, progress, reads

_HAPROXY = Path("deploy/haproxy.cfg")
_INSTANCES = 3


class Balanced(Server):
    """HAProxy and the instances behind it, as one server."""

    def __init__(self, proxy: Server, instances: list[Server]) -> None:
        super().__init__(proxy.process, proxy.address)
        self.proxy = proxy
        self._instances = instances

    @override
    def family(self) -> list[ProcessStat]:
        return [one for server in (self.proxy, *self._instances) for one in server.family()]


@contextmanager
def balanced(instance: Recipe, number: int, cpus: set[int]) -> Iterator[Balanced]:
    """So many instances behind HAProxy.

    Raises:
        ServerError: HAProxy is missing, or one did not start.
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
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "haproxy.cfg"
        file.write_text(text.replace("bind :8080", 'bind "127.0.0.1:${PORT}"'))
        recipe = Recipe("HAProxy", ["haproxy", "-db", "-f", str(file)], {"PORT": "{port}"})
        try:
            proxy = stack.enter_context(running(recipe, cpus))
        except FileNotFoundError:
            raise ServerError("haproxy is missing; apt-get install haproxy") from None
        yield Balanced(proxy, instances)


def row(name: str, server: Server, bare: BareSession, rounds: int) -> list[str]:
    """One line of the table.

    Raises:
        ServerError: it does not read.
    """
    pictures = payloads.example_pictures()
    requests = MULTIPART.requests(list(pictures.values()))
    server.settle()
    if not reads(server, requests, list(pictures)[:1]):
        raise ServerError(f"{name} misreads pictures")
    proxy = server.proxy if isinstance(server, Balanced) else None
    before = (proxy.cpu_seconds(), server.cpu_seconds()) if proxy else (0.0, 0.0)
    figures = cost(server, requests, MULTIPART, bare, rounds)
    share = "–"
    if proxy:
        of_proxy, of_all = proxy.cpu_seconds() - before[0], server.cpu_seconds() - before[1]
        share = f"{100 * of_proxy / of_all:.0f} %"
    quartiles = "–".join(number(value) for value in figures["cpu_ratio_quartiles"])
    return [
        name,
        f"{number(figures['cpu_ratio'])} ({quartiles})",
        share,
        number(figures["requests_per_second"], 0),
        f"{sum(process.resident_bytes for process in server.family()) / 2**20:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/captcha.onnx"))
    parser.add_argument("--rounds", type=int, default=12, help="of the closed loop, 1 s each")
    arguments = parser.parse_args()
    gc.disable()  # a pause of the generator's would be counted as the server's
    cpus = server_processors(pin=False)
    measured = measured_under(conditions(cpus))
    bare = BareSession(arguments.model, list(payloads.example_pictures().values()), cpus)
    one, two = (service(arguments.model, workers) for workers in (1, 2))
    contenders: list[Contender] = [one, two, *ray_serve(arguments.model)]
    rows = []
    for contender in contenders:
        if contender.absent:
            progress(f"{contender.name}: {contender.absent}")
            continue
        with running(contender.recipe, cpus) as server:
            rows.append(row(contender.name, server, bare, arguments.rounds))
        if contender is two:
            with balanced(one.recipe, _INSTANCES, cpus) as server:
                name = f"{_INSTANCES} instances behind HAProxy"
                rows.append(row(name, server, bare, arguments.rounds))
    head = ["server", "× run", "HAProxy's share", "requests/s", "MiB"]
    sys.stdout.write(f"{measured}\n{table(head, rows)}")


if __name__ == "__main__":
    measurement.run(main)
