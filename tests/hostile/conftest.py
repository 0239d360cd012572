import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def share() -> float:
    """The share of the full counts to run, from the environment variable HOSTILE_SHARE."""
    share = float(os.environ.get("HOSTILE_SHARE") or 1)
    if not 0 < share <= 1:
        raise pytest.UsageError(f"HOSTILE_SHARE is {share:g}; it has to be above 0, and at most 1.")
    return share


@pytest.fixture(scope="session")
def scaled(share: float) -> Callable[[int, int], int]:
    """A function that multiplies a full count by `share`, but gives at least a least count."""
    return lambda full, least: max(least, round(full * share))


@pytest.fixture(scope="session")
def normal() -> bytes:
    """A picture of the kind for which the service is made."""
    return min(EXAMPLES.glob("*.png")).read_bytes()


@pytest.fixture
def descriptors() -> None:
    """Raises the limit of open files for all clients, here and in the service."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
