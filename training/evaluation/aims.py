"""The aims of the bundled model, and by how much it misses them."""

import math
from collections.abc import Mapping
from typing import Any

MEAN, MINIMUM = 0.99, 0.95
"""Aims for the exact match over the conditions of `make evaluate-robustness`."""

TRAINING_MINUTES = 30
"""Aim for the time from `make train` to the exported model, on 2 cores."""

TEXT_ECE, CHARACTER_ECE, TEXT_AUROC = 0.01, 0.005, 0.97
"""Aims for the confidences over the same conditions."""


def aims_missed(clean: Mapping[str, Any], robust: Mapping[str, Any]) -> str:
    """A sentence for the model card about the aims.

    Args:
        clean: the summary that `make evaluate` wrote.
        robust: the summary that `make evaluate-robustness` wrote.
    """
    texts, characters = robust["texts"], robust["characters"]
    aims = {
        f"a mean of {MEAN}": MEAN - robust["mean"],
        f"a minimum of {MINIMUM}": MINIMUM - robust["minimum"],
        f"an ECE of texts of at most {TEXT_ECE}": texts["ece"] - TEXT_ECE,
        f"of characters of at most {CHARACTER_ECE}": characters["ece"] - CHARACTER_ECE,
        f"an AUROC of texts of {TEXT_AUROC}": TEXT_AUROC - texts["auroc"],
    }
    # A figure that is undefined, such as the AUROC if every text is right, counts as missed.
    missed = [
        f"{aim}, which is undefined" if math.isnan(by) else f"{aim} by {by:.4f}"
        for aim, by in aims.items()
        if not by <= 0
    ]
    unread = clean["pictures"] - clean["exact"]
    if unread:
        missed.insert(0, f"every clean picture by {unread}")
    sentence = f"The aims were every clean picture, {', '.join(aims)}. "
    return sentence + (f"Missed: {'; '.join(missed)}." if missed else "All of these are reached.")


def training_time(minutes: float) -> str:
    """A sentence for the model card: whether the epochs of the last run took too long."""
    over = round(minutes) - TRAINING_MINUTES
    outcome = f"missed by {over}" if over > 0 else "reached"
    return f"The aim of at most {TRAINING_MINUTES} minutes on 2 cores was {outcome}."
