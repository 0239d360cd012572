"""Random choices, with one uniform number each.

`Generator.choice` draws other numbers, and takes ten times as long for a single choice.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

Random = np.random.Generator
T = TypeVar("T")


def one_of(choices: Sequence[T], rng: Random) -> T:
    """One of the choices, all with the same chance."""
    return choices[int(rng.random() * len(choices))]


def weighted(weights: Mapping[str, int], rng: Random) -> str:
    """One of the names, each with a chance in proportion to its weight."""
    place = rng.random() * sum(weights.values())
    for name, weight in weights.items():
        place -= weight
        if place < 0:
            return name
    return name
