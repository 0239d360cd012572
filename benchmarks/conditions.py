"""The conditions of a measurement: processor, versions, date. Machines are not named."""

import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

_PACKAGES = ("fastapi", "uvicorn", "onnxruntime", "numpy", "pillow")


def conditions(server_cpus: set[int]) -> dict[str, Any]:
    """The facts that a reader needs to judge or repeat the measurement.

    Args:
        server_cpus: the processors that the servers may use.
    """
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0) | server_cpus),
        "server_cores": len(server_cpus),
        "pinned": not os.sched_getaffinity(0) <= server_cpus,
        "load_average_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def server_processors(pin: bool) -> set[int]:
    """The processors that servers may use.

    Args:
        pin: whether this process gets the last processor for itself.

    Raises:
        SystemExit: `pin` is set, and there is only one processor.
    """
    everything = os.sched_getaffinity(0)
    if not pin:
        return everything
    if len(everything) < 2:
        raise SystemExit("error: --pin needs two processors, and there is one.")
    os.sched_setaffinity(0, {max(everything)})
    return everything - {max(everything)}
