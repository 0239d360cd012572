import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import duels, serving
from benchmarks.contenders import SERVICE, Contender
from benchmarks.duels import duel, opponents
from benchmarks.load import LoadGenerator, Outcome
from benchmarks.payloads import get
from benchmarks.servers import Recipe, Server, ServerError

WEB = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response({status} if self.path == "/asked" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", {{port}}), Handler).serve_forever()
"""


def contender(name: str, status: int = 200) -> Contender:
    """A server that answers `GET /asked` with this status."""
    code = WEB.format(status=status)
    return Contender(Recipe(name, [sys.executable, "-c", code], ready="/"), 1)


ROWS = [
    {"server": server, "processes": 1, "pace": pace}
    for server, pace in [(SERVICE, 0.9), ("slow", 0.2), ("quick", 0.5)]
]


def test_this_service_is_compared_with_the_best_peer_of_as_many_processes() -> None:
    """The best peer has the highest pace; without a peer of as many processes, there is no duel."""
    rows = [*ROWS, {"server": "slow", "processes": 2, "pace": 0.7}]
    contenders = [
        Contender(Recipe(name, []), processes)
        for name in (SERVICE, "slow", "quick")
        for processes in (1, 2, 3)
    ]
    found = [(a.name, b.name) for a, b in opponents(contenders, rows)]
    assert found == [(SERVICE, "quick"), (f"{SERVICE}, 2 workers", "slow, 2 workers")]


def test_a_failed_duel_keeps_the_figures_measured_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The outcome has the earlier figures and the reason of the failure."""
    monkeypatch.setattr(serving, "BareSession", lambda *arguments: None)
    monkeypatch.setattr(
        serving,
        "measure",
        lambda contender, *others: [r for r in ROWS if r["server"] == contender.recipe.name],
    )

    def fail(*arguments: object) -> None:
        raise ServerError("it did not start\nand wrote much")

    monkeypatch.setattr(serving, "duel", fail)
    contenders = [Contender(Recipe(str(row["server"]), []), 1) for row in ROWS]
    outcome = serving.compare(contenders, Path("model"), serving.Effort(2, 1), {0})
    assert outcome == {"rows": ROWS, "duels": [], "skipped": ["it did not start"]}


def test_a_server_that_misreads_pictures_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a server is compared with no other server, and the page gives the reason."""
    monkeypatch.setattr(serving, "BareSession", lambda *arguments: None)
    outcome = serving.compare([contender("peer")], Path("model"), serving.Effort(2, 1), {0})
    reason = "peer: it misreads pictures sent as multipart"
    assert outcome == {"rows": [], "duels": [], "skipped": [reason]}


def test_both_servers_are_loaded_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratio compares adjacent rounds; a round begins when the other server is idle again."""
    turns: list[str] = []
    # Answers a second in the warm-up and in three rounds, while the machine gets slower.
    rates = {"a": iter([1, 40, 20, 10]), "b": iter([1, 20, 10, 4])}
    names = iter(rates)

    class Scripted(LoadGenerator):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.name = next(names)

        def closed_loop(self, seconds: float, patience: float = 0) -> list[Outcome]:
            turns.append(self.name)
            rate = next(rates[self.name])
            return [Outcome(0.0, 0.0, (n + 1) / rate, 200) for n in range(rate)]

    monkeypatch.setattr(duels, "LoadGenerator", Scripted)
    monkeypatch.setattr(Server, "settle", lambda server: turns.append("."))
    outcome = duel(contender("a"), contender("b"), [get("/asked")], 3, {0})
    assert "".join(turns) == ".a." + ".b." + "a.b." * 3
    assert outcome == {
        "processes": 1,
        "peer": "b",
        "ratio": 2,
        "ratio_quartiles": [2, 2.5],
        "requests_per_second": [20, 10],
    }


def test_a_server_that_refuses_every_request_ends_the_duel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals do not count as requests a second, however fast they are."""
    monkeypatch.setattr(duels, "_ROUND_SECONDS", 0.1)
    monkeypatch.setattr(duels, "_WARM_UP_SECONDS", 0.1)
    with pytest.raises(ServerError, match="b accepted no request"):
        duel(contender("a"), contender("b", status=503), [get("/asked")], 2, {0})
