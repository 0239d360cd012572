import math
from typing import Any

from training.evaluation.aims import aims_missed, training_time


def robust(**values: float) -> dict[str, Any]:
    found = {"mean": 0.995, "minimum": 0.96, "ece": 0.004, "auroc": 0.98} | values
    confidence = {"ece": found["ece"], "auroc": found["auroc"]}
    shares = {"mean": found["mean"], "minimum": found["minimum"]}
    return shares | {"texts": confidence, "characters": confidence}


def test_aims_that_are_reached() -> None:
    """Nothing is said to be missed."""
    assert aims_missed({"pictures": 9, "exact": 9}, robust()).endswith("All of these are reached.")


def test_aims_that_are_missed() -> None:
    """Each is named with by how much."""
    sentence = aims_missed({"pictures": 9, "exact": 8}, robust(mean=0.9895, auroc=0.96))
    assert "Missed: every clean picture by 1; a mean of 0.99 by 0.0005; " in sentence
    assert sentence.endswith("an AUROC of texts of 0.97 by 0.0100.")


def test_aims_that_mean_nothing() -> None:
    """Where no text is misread there is no AUROC, and nothing to call reached."""
    sentence = aims_missed({"pictures": 9, "exact": 9}, robust(auroc=math.nan))
    assert sentence.endswith("Missed: an AUROC of texts of 0.97, which is undefined.")


def test_the_time_of_training() -> None:
    """Beside what was aimed at."""
    assert training_time(86.6).endswith("missed by 57.")
    assert training_time(30.2).endswith("reached.")
