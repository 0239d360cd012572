"""The memory that the largest accepted pictures take, as the operating system measures it.

`tracemalloc` does not see what Pillow's decoders allocate.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.costly_pictures import costliest, kinds
from service.ocr.preprocessing import DEFAULT_MAX_PIXELS

MOST = 30_000_000
"""Most bytes that one picture adds to the process. docs/operations.md states this limit."""

MEASURE = """
import sys
from pathlib import Path
from service.ocr.preprocessing import preprocess
from service.server.malloc import return_freed_memory

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))

return_freed_memory()
normal, *files = sys.argv[1:]
for channels in (1, 3):
    preprocess(Path(normal).read_bytes(), 200, 50, channels)
    for file in files:
        data = Path(file).read_bytes()
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        preprocess(data, 200, 50, channels)
        print(channels, file, resident("VmHWM") - before, sep="\\t")
"""
ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_picture_takes_little_memory(tmp_path: Path) -> None:
    """This holds for the largest pictures, in gray and in colour."""
    files = []
    for name, encode in kinds().items():
        for number, picture in enumerate(costliest(encode, DEFAULT_MAX_PIXELS, (0, 255))):
            files.append(tmp_path / f"{name} {number}")
            files[-1].write_bytes(picture)
    normal = next((ROOT / "examples").glob("*.png"))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, normal, *files],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == 2 * len(files)
    grown = {f"{Path(file).name}, {channels} channels": int(n) for channels, file, n in rows}
    assert max(grown.values()) > 1_000_000  # the measurement works
    assert {name: n for name, n in grown.items() if n > MOST} == {}
