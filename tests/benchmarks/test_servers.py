import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.servers import (
    ProcessStat,
    Recipe,
    Server,
    ServerError,
    family,
    parse_stat,
    running,
)

WEB = "import http.server as h; h.HTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler)"


def test_a_command_may_have_spaces_and_parentheses() -> None:
    """Fields are counted after the last parenthesis; CPU time includes ended children."""
    ticks = os.sysconf("SC_CLK_TCK")
    text = f"7 (a) b (c)) S 3 7 7 0 -1 0 1 2 3 4 {ticks} {2 * ticks} {ticks} 0 20 0 1 0 5 999 10 0"
    stat = parse_stat(text)
    assert (stat.pid, stat.parent, stat.cpu_seconds) == (7, 3, 4)
    assert stat.resident_bytes == 10 * os.sysconf("SC_PAGE_SIZE")


def test_figures_of_this_process_agree_with_those_of_os() -> None:
    """`/proc/self/stat` and `os` give the same ids and no less CPU time."""
    stat = parse_stat(Path("/proc/self/stat").read_text())
    assert (stat.pid, stat.parent) == (os.getpid(), os.getppid())
    assert stat.cpu_seconds <= sum(os.times()[:4]) + 0.05
    assert stat.resident_bytes > 1 << 20


def test_a_family_has_grandchildren_and_no_unrelated_processes() -> None:
    """The order of the processes does not matter."""
    processes = [ProcessStat(pid, parent, 0, 0) for pid, parent in [(5, 4), (9, 1), (4, 2), (2, 1)]]
    assert {p.pid for p in family(2, processes)} == {2, 4, 5}


def test_a_server_is_started_measured_and_ended() -> None:
    """A server is ready when it answers, uses CPU time, and has no processes at the end."""
    code = WEB + ".serve_forever()"
    with running(Recipe("a web server", [sys.executable, "-c", code], ready="/")) as server:
        assert server.ready_seconds > 0
        assert server.cpu_seconds() > 0
        assert server.status_of("/nothing-here") == 404
    assert server.process.poll() is not None
    assert server.family() == []


def test_settle_waits_for_processes_that_are_still_starting() -> None:
    """The server answers before its second process has started."""
    busy = "import time\nwhile time.process_time() < 1: pass\ntime.sleep(60)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {busy!r}]);" + WEB
    recipe = Recipe("a server", [sys.executable, "-c", code + ".serve_forever()"], ready="/")
    with running(recipe) as server:
        server.settle()
        assert server.cpu_seconds() > 1


def test_the_error_of_a_server_that_ends_has_its_output() -> None:
    """The error also has the exit status."""
    recipe = Recipe("a failure", [sys.executable, "-c", "raise SystemExit('no such model')"])
    with pytest.raises(ServerError, match="status 1") as raised, running(recipe):
        pass
    assert "no such model" in str(raised.value)


def test_child_processes_that_a_server_leaves_behind_are_ended() -> None:
    """A server that dies before its workers leaves no process on the machine."""
    code = (
        "import subprocess, sys;"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);" + WEB
    ) + ".serve_forever()"
    server: Server
    with running(Recipe("a careless server", [sys.executable, "-c", code], ready="/")) as server:
        (_, child) = server.family()
    end = time.monotonic() + 10
    while (left := _runs(child.pid)) and time.monotonic() < end:
        time.sleep(0.01)
    assert not left


def _runs(pid: int) -> bool:
    try:
        # An orphan that has ended is a zombie until its new parent waits for it.
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
