"""How much CPU time this process may use, by its affinity mask and its control groups' quotas."""

import os
from pathlib import Path


def cpu_budget(root: Path = Path("/")) -> float:
    """Number of cores that this process can keep busy; a fraction above 0.

    The smallest of the affinity mask and the quotas of the process's control group and its parents:
    `cpu.max` of version 2, `cpu.cfs_quota_us` of version 1 (kernel documentation,
    admin-guide/cgroup-v2 and scheduler/sched-bwc).

    Args:
        root: the folder that contains `proc` and `sys`.
    """
    return min([_affinity(), *_quotas(root)])


def cpu_threads(workers: int = 1) -> int:
    """Number of threads for one of `workers` processes that share the budget; at least 1."""
    return max(1, round(cpu_budget() / workers))


def _affinity() -> float:
    if hasattr(os, "sched_getaffinity"):
        return float(len(os.sched_getaffinity(0)))
    return float(os.cpu_count() or 1)


def _quotas(root: Path) -> list[float]:
    """The quotas of this process's control groups, in cores."""
    mounts = root / "sys/fs/cgroup"
    quotas = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += [_quota(_text(f / "cpu.max").split()) for f in _upwards(mounts, path)]
        elif "cpu" in controllers.split(","):
            for folder in _upwards(mounts / "cpu", path):
                files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                quotas.append(_quota([_text(folder / name).strip() for name in files]))
    return [quota for quota in quotas if quota is not None]


def _upwards(mount: Path, path: str) -> list[Path]:
    """The folder of a control group and its parents.

    In a container the path may be that on the host, so that only the mount itself exists.
    """
    group = Path(path.lstrip("/"))
    return [mount / part for part in (group, *group.parents)]


def _quota(numbers: list[str]) -> float | None:
    """Cores for a quota and a period in microseconds; None for `max` and -1."""
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return None
    quota, period = map(int, numbers)
    return quota / period if quota and period else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
