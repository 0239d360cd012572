import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.process import ROOT

_GROWTH = """
import resource, sys, threading
from pathlib import Path
from service.server import malloc

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

kept = []
def work():
    large = []
    for _ in range(200):
        large.append(b"x" * 100_000)
        kept.append(b"x" * 1000)  # in between, so that the end of no heap is free

if sys.argv[1] == "give back":
    malloc.return_freed_memory()
before = resident()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(resident() - before)
"""


def growth(how: str) -> int:
    """Bytes by which a process grows when it frees 20 MB, and keeps small pieces in between."""
    command = [sys.executable, "-c", _GROWTH, how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(
    not (Path("/proc/self/statm").exists() and hasattr(ctypes.CDLL(None), "mallopt")),
    reason="needs Linux and glibc",
)
def test_freed_memory_is_returned_to_the_system() -> None:
    """Even if memory behind it is still in use."""
    assert growth("keep") > 15_000_000
    assert growth("give back") < 5_000_000
