import math
from typing import Any

from training.evaluation.aims import aims_missed, training_time


def robust(**values: float) -> dict[str, Any]:
    found = {"mean": 0.995, "minimum": 0.96, "ece": 0.004, "auroc": 0.98} | values
    confidence = {"ece": found["ece"], "auroc": found["auroc"]}
    shares = {"mean": found["mean"], "minimum": found["minimum"]}
    return shares | {"texts": confidence, "characters": confidence}


def test_the_sentence_says_that_all_aims_are_reached() -> None:
    assert aims_missed({"pictures": 9, "exact": 9}, robust()).endswith("All of these are reached.")


def test_the_sentence_says_by_how_much_each_aim_is_missed() -> None:
    sentence = aims_missed({"pictures": 9, "exact": 8}, robust(mean=0.9895, auroc=0.96))
    assert "Missed: every clean picture by 1; a mean of 0.99 by 0.0005; " in sentence
    assert sentence.endswith("an AUROC of texts of 0.97 by 0.0100.")


def test_an_undefined_auroc_counts_as_missed() -> None:
    """If no text is misread, there is no AUROC."""
    sentence = aims_missed({"pictures": 9, "exact": 9}, robust(auroc=math.nan))
    assert sentence.endswith("Missed: an AUROC of texts of 0.97, which is undefined.")


def test_the_training_time_is_compared_with_its_aim() -> None:
    assert training_time(86.6).endswith("missed by 57.")
    assert training_time(30.2).endswith("reached.")
