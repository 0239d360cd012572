"""Measures confidences: calibration error, ranking, and the reliability diagram."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from service.ocr.decoding.decoder import Reading

BINS = 15
_TRIALS = 200


@dataclass(frozen=True, slots=True)
class Judged:
    """Confidences of readings, 0 to 1, and whether each reading is right, both `(n,)`."""

    confidences: NDArray[np.float64]
    right: NDArray[np.bool_]


def judge_texts(labels: Sequence[str], readings: Sequence[Reading]) -> Judged:
    """Judges texts; a text is right if it equals its label."""
    return Judged(
        np.array([reading.confidence for reading in readings]),
        np.array([r.text == label for label, r in zip(labels, readings, strict=True)], bool),
    )


def judge_characters(labels: Sequence[str], readings: Sequence[Reading]) -> Judged:
    """Judges characters; a character is right if an alignment with the label keeps it."""
    confidences: list[float] = []
    right: list[bool] = []
    for label, reading in zip(labels, readings, strict=True):
        kept = [False] * len(reading.text)
        for block in Levenshtein.opcodes(label, reading.text):
            if block.tag == "equal":
                kept[block.dest_start : block.dest_end] = [True] * (
                    block.dest_end - block.dest_start
                )
        confidences += [character.confidence for character in reading.characters]
        right += kept
    return Judged(np.array(confidences), np.array(right, bool))


def expected_calibration_error(judged: Judged, bins: int = BINS) -> float:
    """ECE (Naeini et al. 2015): |confidence - share right| over equally wide bins, weighted.

    Not a number if there are no readings.
    """
    if not len(judged.right):
        return float("nan")
    places = np.minimum((judged.confidences * bins).astype(int), bins - 1)
    gaps = np.bincount(places, judged.confidences - judged.right, bins)
    return float(np.abs(gaps).sum() / len(judged.right))


def error_by_chance(judged: Judged) -> float:
    """The mean ECE of the same number of readings if their confidences were exactly true.

    It falls with the number of readings; the ECE of few readings says little because of it.
    """
    generator = np.random.default_rng(0)
    errors = []
    for _ in range(_TRIALS):
        right = generator.random(len(judged.right)) < judged.confidences
        errors.append(expected_calibration_error(Judged(judged.confidences, right)))
    return float(np.mean(errors))


def area_under_roc(judged: Judged) -> float:
    """AUROC: how often a right reading has a higher confidence than a wrong one; ties count half.

    Not a number if all readings are right or all are wrong.
    """
    right = np.sort(judged.confidences[judged.right])
    wrong = judged.confidences[~judged.right]
    if not len(right) or not len(wrong):
        return float("nan")
    below = np.searchsorted(right, wrong, "left")
    not_above = np.searchsorted(right, wrong, "right")
    surer = (2 * len(right) - below - not_above).sum() / 2
    return float(surer / (len(right) * len(wrong)))


def figures_of(judged: Judged) -> dict[str, float]:
    """The number of readings, the number of right ones, ECE and AUROC."""
    return {
        "count": len(judged.right),
        "right": int(judged.right.sum()),
        "ece": expected_calibration_error(judged),
        "auroc": area_under_roc(judged),
    }


def report_of(judged: dict[str, Judged]) -> str:
    """A line of figures for each kind."""
    lines = []
    for kind, values in judged.items():
        figures = figures_of(values)
        count, right = figures["count"], figures["right"]
        if not count:
            lines.append(f"confidence of {kind}: there are none")
            continue
        ranking = f"AUROC {figures['auroc']:.4f}"
        if right in (0, count):
            ranking = f"no AUROC, since {'none' if right else 'all'} of them are wrong"
        lines.append(f"confidence of {kind}: {right}/{count} right, {_error(values)}, {ranking}")
    return "\n".join(lines)


def _error(judged: Judged) -> str:
    ece, chance = expected_calibration_error(judged), error_by_chance(judged)
    return f"ECE {ece:.4f}, where true confidences would have {chance:.4f} by chance"


def draw_diagram(judged: dict[str, Judged], path: Path) -> None:
    """Draws, for each kind, the share of right readings and their number by confidence."""
    from matplotlib.figure import Figure  # takes a fraction of a second

    figure = Figure(figsize=(4.2 * len(judged), 5), layout="constrained")
    rows = figure.subplots(2, len(judged), height_ratios=(3, 1), sharex=True, squeeze=False)
    edges = np.linspace(0, 1, BINS + 1)
    for (kind, values), diagram, histogram in zip(judged.items(), *rows, strict=True):
        places = np.minimum((values.confidences * BINS).astype(int), BINS - 1)
        counts = np.bincount(places, minlength=BINS)
        filled = counts > 0
        means = np.bincount(places, values.confidences, BINS)[filled] / counts[filled]
        shares = np.bincount(places, values.right, BINS)[filled] / counts[filled]
        diagram.plot((0, 1), (0, 1), color="#888888", linewidth=1)
        diagram.plot(means, shares, "o-", color="#4477aa")
        ece = expected_calibration_error(values)
        diagram.set(title=f"{kind}: ECE {ece:.4f}", ylabel="share right", ylim=(-0.02, 1.02))
        histogram.bar(edges[:-1], counts, 1 / BINS, align="edge", color="#4477aa", log=counts.any())
        histogram.set(xlabel="confidence", ylabel="how many")
    figure.savefig(path, dpi=120)
