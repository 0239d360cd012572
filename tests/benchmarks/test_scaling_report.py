import json

import pytest

from benchmarks import bulk, scaling
from benchmarks.bulk_estimate import BulkEstimate
from benchmarks.scaling_report import PAGE, fill, sections


def test_only_the_text_between_marks_is_replaced() -> None:
    page = "before\n<!-- a -->\nold\n<!-- end of a -->\nafter <!-- b -->\n"
    assert fill(page, "a", r"new \1") == (
        "before\n<!-- a -->\n\nnew \\1\n<!-- end of a -->\nafter <!-- b -->\n"
    )
    with pytest.raises(ValueError, match="b"):
        fill(page, "b", "new")


def test_the_page_shows_the_stored_figures() -> None:
    """`python -m benchmarks.scaling_report` writes the figures into the page."""
    page = PAGE.read_text(encoding="utf-8")
    serving, read = (json.loads(path.read_text()) for path in (scaling.RESULTS, bulk.RESULTS))
    for name, content in sections(serving, read).items():
        assert fill(page, name, content) == page, name


def test_the_slower_of_cores_and_driver_limits_reading_in_bulk() -> None:
    """A core reads whole shards."""
    estimate = BulkEstimate(cpu_ms=4, driver_ms=1)
    assert estimate.shard_seconds == 80
    assert estimate.reading_seconds(10**9, 1000) == 60 + 50 * 80
    assert estimate.reading_seconds(20_001, 1000) == 60 + 80
    assert BulkEstimate(4, 100).reading_seconds(10**9, 1000) == 60 + 5000
