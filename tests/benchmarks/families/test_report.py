"""The page of the exam says which bars are met, on how many families."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.families import report
from benchmarks.families.catalogue import FAMILIES
from benchmarks.families.exam import DDDDOCR, OURS, Outcome


def outcome(family: str, labels: int, exact: int, **more: Any) -> Outcome:
    return Outcome(family, labels, OURS, exact, 200, **more)


def outcomes(*given: Outcome) -> report.Outcomes:
    return {(o.family, o.labels, o.reader): o for o in given}


def verdicts(measured: report.Outcomes) -> dict[str, tuple[Any, int, bool | None]]:
    return {bar.name: (bar.value, families, bar.met) for families, bar in report.bars_of(measured)}


def test_bars_judge_the_mean_and_the_worst_family_of_the_default_recipe() -> None:
    judged = verdicts(
        outcomes(
            outcome("gvcode", 200, 200, ece=0.01, seconds={"train": 600.0, "data": 60.0}),
            outcome("trdg", 200, 130, ece=0.06, seconds={"train": 960.0}),
            Outcome("trdg", 200, "seed", 0, 200),
        )
    )

    assert judged["200 labels: exact match, mean"] == (pytest.approx(0.825), 2, False)
    assert judged["200 labels: exact match, least"] == (pytest.approx(0.65), 2, False)
    assert judged["200 labels: text ECE, largest"] == (pytest.approx(0.06), 2, False)
    assert judged["200 labels: minutes, longest"] == (pytest.approx(16), 2, False)
    assert judged["800 labels: exact match, mean"] == (None, 0, None)


def test_a_figure_equal_to_its_bar_meets_the_bar() -> None:
    judged = verdicts(
        outcomes(
            *(
                outcome(name, 800, 190, ece=0.05, seconds={"train": 1800.0})
                for name in ("gvcode", "trdg")
            )
        )
    )

    assert all(met for name, (_, _, met) in judged.items() if name.startswith("800"))


def test_a_failed_family_counts_as_an_exact_match_of_0() -> None:
    judged = verdicts(
        outcomes(outcome("gvcode", 50, 200), outcome("trdg", 50, 0, failed="make data: exit 1"))
    )

    assert judged["50 labels: exact match, least"] == (0, 2, False)


def test_the_page_shows_the_minutes_that_the_training_was_given(tmp_path: Path) -> None:
    page = tmp_path / "families.md"
    seconds = {"train": 120.0, "evaluate": 60.0}
    measured = outcomes(outcome("gvcode", 50, 171, seconds=seconds, given_minutes=2.5))

    report.write(measured, page, tmp_path / "families.png")

    assert "| gvcode | 50 | – | – | 2.5 | 3.0 |" in page.read_text()


def test_the_page_shows_measured_failed_and_missing_cells(tmp_path: Path) -> None:
    page, chart = tmp_path / "families.md", tmp_path / "families.png"
    measured = outcomes(
        outcome("gvcode", 800, 171, ece=0.031, seconds={"train": 660.0}, commit="abc1234"),
        outcome("trdg", 800, 0, failed="make train: exit 2: out of memory"),
        Outcome("gvcode", 0, DDDDOCR, 63, 200),
    )

    report.write(measured, page, chart)

    text = page.read_text()
    lines = text.splitlines()
    assert all(any(line.startswith(f"| {name} |") for line in lines) for name in FAMILIES)
    assert "| gvcode | 0.315 | – | – | – | – | – | 0.855 |" in text
    assert "| 200 labels: exact match, mean | – | ≥ 0.88 | 0 of 12 | not measured |" in text
    assert "out of memory" in text
    assert chart.read_bytes().startswith(b"\x89PNG")
