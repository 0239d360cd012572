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
    """A server that answers what is asked of it with this status."""
    code = WEB.format(status=status)
    return Contender(Recipe(name, [sys.executable, "-c", code], ready="/"), 1)


ROWS = [
    {"server": server, "processes": 1, "pace": pace}
    for server, pace in [(SERVICE, 0.9), ("slow", 0.2), ("quick", 0.5)]
]


def test_the_best_peer_has_as_many_processes() -> None:
    """The most pictures beside bare runs, this service aside; none is no error."""
    rows = [*ROWS, {"server": "slow", "processes": 2, "pace": 0.7}]
    contenders = [
        Contender(Recipe(name, []), processes)
        for name in (SERVICE, "slow", "quick")
        for processes in (1, 2, 3)
    ]
    found = [(a.name, b.name) for a, b in opponents(contenders, rows)]
    assert found == [(SERVICE, "quick"), (f"{SERVICE}, 2 workers", "slow, 2 workers")]


def test_a_duel_that_fails_loses_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured before it is told, and why there is no more."""
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


def test_a_server_that_cannot_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compared with nothing, and the page says why."""
    monkeypatch.setattr(serving, "BareSession", lambda *arguments: None)
    outcome = serving.compare([contender("peer")], Path("model"), serving.Effort(2, 1), {0})
    reason = "peer: it misreads pictures sent as multipart"
    assert outcome == {"rows": [], "duels": [], "skipped": [reason]}


def test_servers_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratio is that of rounds next to each other, and each finds the other server at rest."""
    turns: list[str] = []
    # Answers a second: warming up, then in three rounds, as the machine gets slower.
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


def test_a_server_that_refuses_everything_is_no_opponent(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast it does."""
    monkeypatch.setattr(duels, "_ROUND_SECONDS", 0.1)
    monkeypatch.setattr(duels, "_WARM_UP_SECONDS", 0.1)
    with pytest.raises(ServerError, match="b accepted no request"):
        duel(contender("a"), contender("b", status=503), [get("/asked")], 2, {0})
