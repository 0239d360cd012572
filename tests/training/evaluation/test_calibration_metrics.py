from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.ocr.decoding.decoder import Character, Reading
from training.evaluation.calibration_metrics import (
    Judged,
    area_under_roc,
    draw_diagram,
    error_by_chance,
    expected_calibration_error,
    judge_characters,
    judge_texts,
    report_of,
)


def judged(*pairs: tuple[float, bool]) -> Judged:
    confidences, right = zip(*pairs, strict=True)
    return Judged(np.array(confidences), np.array(right))


def reading(text: str, confidence: float, *characters: float) -> Reading:
    return Reading(
        text,
        confidence,
        tuple(Character(s, c, (0, 1)) for s, c in zip(text, characters, strict=True)),
    )


def test_the_calibration_error_is_weighted_over_the_bins() -> None:
    """By hand: a bin off by 0.05 with a weight of 0.75, and a bin off by 0.4 with 0.25."""
    values = judged((0.95, True), (0.95, True), (0.95, True), (0.4, False))
    assert expected_calibration_error(values, bins=10) == pytest.approx(0.75 * 0.05 + 0.25 * 0.4)


def test_calibrated_confidences_have_a_small_error() -> None:
    """The error of perfectly calibrated confidences vanishes as their number grows."""
    generator = np.random.default_rng(0)
    confidences = generator.random(200_000)
    right = generator.random(200_000) < confidences
    assert expected_calibration_error(Judged(confidences, right)) < 0.005
    assert expected_calibration_error(Judged(confidences**2, right)) > 0.1


def test_a_confidence_of_1_is_counted() -> None:
    """A confidence of 1 is in the last bin."""
    assert expected_calibration_error(judged((1.0, True), (1.0, False))) == pytest.approx(0.5)


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    """In the right order, the right text has the higher confidence; a tie counts as half a pair."""
    assert area_under_roc(judged((0.9, True), (0.8, True), (0.1, False))) == 1
    assert area_under_roc(judged((0.9, True), (0.5, False), (0.5, True), (0.1, False))) == 0.875
    assert np.isnan(area_under_roc(judged((0.9, True), (0.8, True))))


def test_the_error_by_chance_falls_with_the_root_of_the_number() -> None:
    """Even perfectly calibrated confidences have this error."""
    generator = np.random.default_rng(0)

    def by_chance(count: int) -> float:
        confidences = generator.uniform(0.2, 0.9, count)
        return error_by_chance(Judged(confidences, np.ones(count, bool)))

    few, many = by_chance(200), by_chance(20_000)
    assert 0.06 < few < 0.12
    assert many == pytest.approx(few / 10, rel=0.25)


def test_the_report_says_why_there_is_no_auroc() -> None:
    """The report never prints `nan`."""
    nothing = Judged(np.array([]), np.array([], bool))
    report = report_of(
        {
            "some": judged((0.9, True), (0.4, False)),
            "right": judged((0.9, True), (0.8, True)),
            "wrong": judged((0.9, False)),
            "none": nothing,
        }
    ).splitlines()
    assert report[0].startswith("confidence of some: 1/2 right, ECE 0.2500, where")
    assert report[0].endswith("AUROC 1.0000")
    assert report[1].endswith("no AUROC, since none of them are wrong")
    assert report[2].endswith("no AUROC, since all of them are wrong")
    assert report[3] == "confidence of none: there are none"
    assert "nan" not in "".join(report)


def test_texts_are_judged_as_a_whole_and_characters_by_their_place() -> None:
    """A character is right if the label has the same character in its place."""
    labels = ["abc", "abc", "abc"]
    readings = [
        reading("abc", 0.9, 0.9, 0.8, 0.7),
        reading("axc", 0.5, 0.6, 0.5, 0.4),
        reading("abbc", 0.3, 0.3, 0.2, 0.1, 0.3),
    ]
    assert judge_texts(labels, readings).right.tolist() == [True, False, False]
    characters = judge_characters(labels, readings)
    assert characters.confidences.tolist() == [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.3]
    assert characters.right.sum() == 3 + 2 + 3


def test_without_characters_the_figures_are_undefined() -> None:
    """The figures are NaN; there is no error."""
    nothing = Judged(np.array([]), np.array([], bool))
    assert np.isnan([expected_calibration_error(nothing), area_under_roc(nothing)]).all()


def test_the_diagram_may_have_empty_bins(tmp_path: Path) -> None:
    """Even all bins may be empty."""
    nothing = Judged(np.array([]), np.array([], bool))
    values = {"texts": judged((0.95, True), (0.2, False)), "characters": nothing}
    draw_diagram(values, tmp_path / "diagram.png")
    with Image.open(tmp_path / "diagram.png") as image:
        assert image.width > 300
