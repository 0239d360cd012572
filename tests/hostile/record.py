"""Stores the figures of the tests (proofs) for `tests.hostile.report`."""

import json
import os
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "build" / "hostile"


def record(proof: str, **figures: Any) -> None:
    """Adds figures to those of a proof; a figure of the same name is replaced."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{proof}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known |= figures | {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "load_average": round(os.getloadavg()[0], 1),
        "cores": len(os.sched_getaffinity(0)),
    }
    path.write_text(json.dumps(known, indent=1) + "\n")
