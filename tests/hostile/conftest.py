import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def share() -> float:
    """The share of the full counts that is run, from the environment's HOSTILE_SHARE."""
    share = float(os.environ.get("HOSTILE_SHARE") or 1)
    if not 0 < share <= 1:
        raise pytest.UsageError(f"HOSTILE_SHARE is {share:g}; it has to be above 0, and at most 1.")
    return share


@pytest.fixture(scope="session")
def some(share: float) -> Callable[[int, int], int]:
    """Gives the share of a count, but not less than some least one."""
    return lambda full, least: max(least, round(full * share))


@pytest.fixture(scope="session")
def normal() -> bytes:
    """A picture as the service is meant to get them."""
    return min(EXAMPLES.glob("*.png")).read_bytes()


@pytest.fixture
def descriptors() -> None:
    """Enough for every client, here and in the service."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
