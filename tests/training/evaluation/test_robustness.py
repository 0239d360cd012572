from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.ocr.preprocessing import decode_gray
from service.ocr.recognizer import Recognizer
from tests import stripes
from training.augmentation.conditions import CONDITIONS
from training.data.dataset import Dataset
from training.data.prepare import prepare
from training.evaluation.robustness import (
    distorted,
    draw_chart,
    figures_of,
    read_condition,
    summarize,
    table,
)
from training.synthetic.generate import generate


def test_there_are_enough_conditions() -> None:
    """At least 25 different conditions of 12 families; the clean condition comes first."""
    assert len({(c.family, c.name) for c in CONDITIONS}) == len(CONDITIONS) >= 25
    assert len({c.family for c in CONDITIONS}) >= 12
    assert CONDITIONS[0].family == "clean"


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda c: f"{c.family}, {c.name}")
def test_a_condition_always_distorts_a_picture_the_same_way(condition: object) -> None:
    """Only the clean condition leaves the picture unchanged."""
    (drawing,) = generate(1, "abc", (5,), 200, 50, seed=0)
    picture = drawing.png()
    first, again = (distorted(picture, condition) for _ in range(2))  # type: ignore[arg-type]
    assert first == again
    same = np.array_equal(decode_gray(first), decode_gray(picture))
    assert same is (condition is CONDITIONS[0])


def test_robustness_figures_are_counted_per_condition(
    tmp_path: Path, recognizer: Recognizer
) -> None:
    """Mean and minimum over the conditions are shown in a table and a chart."""
    (tmp_path / "pictures").mkdir()
    for text in ("abcd", "dcba", "ab", "cd"):
        (tmp_path / "pictures" / f"{text}.png").write_bytes(stripes.picture(text))
    samples = prepare(tmp_path / "pictures", tmp_path / "data")
    dataset = Dataset(tmp_path / "data")
    clean, inverted = (
        next(c for c in CONDITIONS if c.family == family) for family in ("clean", "inversion")
    )
    rows = [
        figures_of(c, read_condition(recognizer, dataset, samples, c)) for c in (clean, inverted)
    ]
    summary = summarize(rows)
    assert [row["exact"] for row in rows] == [4, 0]
    assert (summary["mean"], summary["minimum"], summary["families"]) == (0.5, 0.0, 2)
    assert "| clean | as it is | 4/4 | 1.0000 |" in table(summary)
    draw_chart(summary, tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as chart:
        assert chart.width > 400
