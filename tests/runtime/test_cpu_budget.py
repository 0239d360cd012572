import os
from pathlib import Path

import pytest

from service.runtime.cpu_budget import cpu_budget, cpu_threads


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 8),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense\n"}, 8),
    ],
    ids=["none", "v2", "v2-unlimited", "v2-above", "v2-parent", "v1", "v1-unlimited", "nonsense"],
)
def test_the_budget_is_the_lowest_limit(
    files: dict[str, str], cores: float, tmp_path: Path
) -> None:
    """The limits are the CPU affinity, and every quota that binds the process."""
    assert cpu_budget(write(tmp_path, files)) == cores


def test_workers_share_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers divide the cores, and each has at least one thread."""
    monkeypatch.setattr("service.runtime.cpu_budget.cpu_budget", lambda: 3.0)
    assert [cpu_threads(workers) for workers in (1, 2, 3, 8)] == [3, 2, 1, 1]
