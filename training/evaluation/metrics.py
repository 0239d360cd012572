"""Measures how well texts were read."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from rapidfuzz.distance import Levenshtein

Pair = tuple[str, str]
"""A label and the text that was read."""


def character_error_rate(pairs: Sequence[Pair]) -> float:
    """CER: edits (insertions, deletions, substitutions) per character of the labels."""
    edits = sum(Levenshtein.distance(label, text) for label, text in pairs)
    return edits / max(1, sum(len(label) for label, _ in pairs))


def exact_matches(pairs: Iterable[Pair]) -> int:
    """How many texts equal their label."""
    return sum(label == text for label, text in pairs)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927)."""
    if trials == 0:
        return 0.0, 1.0
    share, z = successes / trials, 1.959964
    denominator = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / denominator
    spread = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2) / denominator
    return max(0.0, centre - spread), min(1.0, centre + spread)


def confusions(pairs: Iterable[Pair]) -> Counter[Pair]:
    """The edits that turn labels into the texts read, as (expected, read), with their counts.

    A missed character is read as ""; an invented character is expected as "".
    """
    counts: Counter[Pair] = Counter()
    for label, text in pairs:
        for edit in Levenshtein.editops(label, text):
            expected = "" if edit.tag == "insert" else label[edit.src_pos]
            read = "" if edit.tag == "delete" else text[edit.dest_pos]
            counts[expected, read] += 1
    return counts


def has_adjacent_repeat(label: str) -> bool:
    """Whether two neighbouring characters are equal, where CTC errs first."""
    return any(a == b for a, b in itertools.pairwise(label))
