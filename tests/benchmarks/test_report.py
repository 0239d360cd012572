import json
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar, serving_bars
from benchmarks.chart import draw
from benchmarks.contenders import SERVICE
from benchmarks.lifecycle import Lost, lifecycle_bars
from benchmarks.load import UNANSWERED, Outcome
from benchmarks.markdown import bars_table, measured_under
from benchmarks.overload import PROBED, overload_bars
from benchmarks.report import lifecycle_section, overload_section, serving_section

CONDITIONS = {
    "date": "today",
    "cpu": "a processor",
    "cores": 8,
    "server_cores": 7,
    "pinned": True,
    "load_average_before": 0.5,
    "python": "3.11",
    "versions": {"fastapi": "1"},
}


def latency(p50: float | None, p99: float | None, count: int = 500) -> dict[str, Any]:
    return {"count": count, "p50": p50, "p99": p99, "p999": None, "worst": p99}


def row(server: str, payload: str, processes: int, ratio: float, pace: float) -> dict[str, Any]:
    loads = [
        {
            "share": share,
            "rate": 100 * share,
            "accepted": latency(4, 4 + 10 * share),
            "tail_ratio": 5 * share,
        }
        for share in (0.5, 0.8)
    ]
    return {
        "server": server,
        "processes": processes,
        "payload": payload,
        "cpu_ratio": ratio,
        "cpu_ratio_all_cores": ratio,
        "cpu_ratio_quartiles": [ratio - 0.1, ratio + 0.1],
        "pace": pace,
        "requests_per_second": 100,
        "closed_loop": {"accepted": latency(8, 9)},
        "open_loop": loads,
        "resident_mib_largest": 100,
        "resident_mib_all": 120,
    }


def serving() -> dict[str, Any]:
    return {
        "conditions": CONDITIONS,
        "start": {"ready_seconds": 1.2, "libraries_and_model_seconds": 1.0},
        "rows": [
            row(SERVICE, "multipart", 1, 1.3, 0.6),
            row(SERVICE, "multipart", 2, 1.3, 1.2),
            row("slow", "multipart", 1, 3.0, 0.2),
            row("quick", "multipart", 1, 2.0, 0.5),
        ],
        "duels": [
            {
                "processes": 1,
                "peer": "quick",
                "ratio": 1.6,
                "ratio_quartiles": [1.4, 1.7],
                "requests_per_second": [480, 300],
            }
        ],
        "skipped": ["absent: not there"],
    }


def overload() -> dict[str, Any]:
    probe = {"accepted": latency(1, 9), "refused": latency(None, None, 0), "other": {}}
    loads = [
        {
            "multiple": multiple,
            "peak": 100,
            "accepted": latency(40, 60),
            "refused": latency(2, 10 * multiple),
            "other": {},
            "in_time": 1.0,
            "share": share,
            "share_quartiles": [share - 0.01, share + 0.01],
            "probes": dict.fromkeys(PROBED, probe),
            "recovery_seconds": 1.5,
        }
        for multiple, share in ((1.0, 0.5), (2.0, 0.89), (10.0, 0.93))
    ]
    facts = {"bound_ms": 12, "payload": "raw body", "probed": list(PROBED)}
    insistent = [{**loads[-1], "clients": 640, "share": 0.77}]
    return {"conditions": CONDITIONS, **facts, "loads": loads, "insistent": insistent}


def lifecycle() -> dict[str, Any]:
    run = {"lost_before": 0, "lost_after": 2, "answered": 90, "exit_status": 0, "exit_seconds": 0.3}
    afterwards = {"refused": latency(None, None, 0), "other": {}}
    struck = {
        "signal": "SIGKILL",
        "replaced_seconds": 2.0,
        "survivors": 1,
        "accepted": latency(4, 9),
        "refused": latency(None, None, 0),
        "other": {"unanswered": 3},
        "afterwards": afterwards,
    }
    return {"conditions": CONDITIONS, "terminated": [run, run], "struck": [struck]}


def verdicts(bars: list[Bar]) -> dict[str, tuple[float | None, bool | None]]:
    return {bar.name: (bar.value, bar.met) for bar in bars}


def test_serving_is_judged_against_the_best_peer_with_as_many_processes() -> None:
    """A figure that was not measured is not judged."""
    judged = verdicts(serving_bars(serving()))
    assert judged["requests/s ÷ the best peer's, workers each: 1"] == (1.6, True)
    assert judged["requests/s ÷ the best peer's, workers each: 2"] == (None, None)
    assert judged["CPU time of a picture ÷ `session.run`, multipart"] == (1.3, True)
    assert judged["CPU time of a picture ÷ `session.run`, raw body"] == (None, None)
    assert judged["p99 ÷ p50 at 80 % load, multipart"] == (4, True)
    assert judged["requests/s (as pace), two workers ÷ one"] == (2, True)


def test_two_workers_are_not_judged_on_two_cores() -> None:
    """On two cores, the second worker has no core of its own."""
    figures = serving() | {"conditions": CONDITIONS | {"cores": 2}}
    assert "not judged on 2 cores" in bars_table(serving_bars(figures))


def test_each_load_above_the_capacity_has_a_bar_of_goodput() -> None:
    """A load at the capacity has no such bar."""
    judged = verdicts(overload_bars(overload()))
    goodput = {name: verdict for name, verdict in judged.items() if "goodput" in name}
    assert goodput == {
        "goodput at 2 × the capacity ÷ the peak": (0.89, False),
        "goodput at 10 × the capacity ÷ the peak": (0.93, True),
    }
    assert judged["p99 of refused requests, ms"] == (100, True)
    assert judged["worst answer of a health endpoint, ms"] == (9, True)


def test_a_health_endpoint_that_refuses_misses_its_bar() -> None:
    """The latency of other answers does not matter."""
    figures = overload()
    probe = {"accepted": latency(1, 9), "refused": latency(1, 1, 1), "other": {}}
    figures["loads"][1]["probes"] = dict.fromkeys(PROBED, probe)
    name = "worst answer of a health endpoint, ms"
    assert verdicts(overload_bars(figures))[name] == (float("inf"), False)


def test_a_load_without_recovery_misses_its_bar() -> None:
    """The maximum over the loads includes a load without recovery."""
    figures = overload()
    figures["loads"][2]["recovery_seconds"] = None
    assert verdicts(overload_bars(figures))["seconds until the base's p99 is back"][1] is False


def test_only_requests_that_were_sent_completely_can_be_lost() -> None:
    """Requests sent before and after the signal are counted apart."""
    never = float("inf")
    outcomes = [
        Outcome(0, sent, 9, status)
        for sent, status in [(1, UNANSWERED), (3, UNANSWERED), (never, UNANSWERED), (1, 200)]
    ]
    assert Lost.of(outcomes, signalled=2) == Lost(before=1, after=1)


def test_a_lost_request_or_a_worker_that_is_not_replaced_misses_a_bar() -> None:
    """One lost request in any of the runs suffices."""
    figures = lifecycle()
    assert all(bar.met for bar in lifecycle_bars(figures))
    figures["terminated"][1] = figures["terminated"][1] | {"lost_before": 1}
    figures["struck"][0]["replaced_seconds"] = None
    missed = {bar.name for bar in lifecycle_bars(figures) if not bar.met}
    assert missed == {
        "requests lost in 2 runs, sent before SIGTERM",
        "seconds until the worker is replaced after SIGKILL",
    }


def test_the_page_warns_of_a_busy_machine() -> None:
    """Other work on the machine makes rates and latencies wrong."""
    assert "busy" not in measured_under(CONDITIONS)
    assert "busy" in measured_under(CONDITIONS | {"load_average_before": 4.1})


def test_the_report_has_every_row_and_the_chart(tmp_path: Path) -> None:
    """The report is written from the result files alone, with conditions and skipped servers."""
    figures = json.loads(json.dumps(serving()))
    sections = [serving_section(figures), overload_section(overload())]
    page = "\n".join(text for section in sections for text in section)
    page += "\n".join(lifecycle_section(lifecycle()))
    for text in (
        "| quick | 1 | multipart |",
        "| 10 × | 1000 | 0.93 (0.92–0.94) |",
        "640 clients that ask again as soon as they are answered, also when they are refused: "
        "goodput ÷ the peak 0.77",
        "a processor",
        "absent: not there",
    ):
        assert text in page
    for block in page.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if line[:1] == "|"}) <= 1
    draw(figures, tmp_path / "latency.png")
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")
