"""Aligns the characters of a text with time steps, and so with places in the picture.

CTC emits a character in one or two time steps near its middle and blanks in between. Emissions are
therefore the centres of characters. A character's extent reaches half way to its neighbours; the
first and the last character reach as far outwards as inwards.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Steps = list[tuple[int, int]]
"""For each character, the first time step that emits it, and the step after the last."""


def greedy_steps(best: Sequence[int], blank_index: int) -> Steps:
    """The time steps that emit each character of the best path.

    Args:
        best: the most probable class of every time step.
    """
    steps: Steps = []
    previous = blank_index
    for step, symbol in enumerate(best):
        if symbol != blank_index and symbol == previous:
            steps[-1] = (steps[-1][0], step + 1)
        elif symbol != blank_index:
            steps.append((step, step + 1))
        previous = symbol
    return steps


def forced_steps(
    probabilities: NDArray[np.floating], label: Sequence[int], blank_index: int
) -> Steps:
    """The time steps that emit each character on the best path that spells `label`.

    The Viterbi algorithm over the states of CTC's forward algorithm; `label` must fit the time
    steps.
    """
    states = np.full(2 * len(label) + 1, blank_index)
    states[1::2] = label
    skips = np.zeros(len(states), bool)
    skips[2:] = (states[2:] != blank_index) & (states[2:] != states[:-2])
    with np.errstate(divide="ignore"):
        scores = np.log(probabilities.astype(np.float64)[:, states])
    best = np.where(np.arange(len(states)) < 2, scores[0], -np.inf)
    moves = np.zeros(scores.shape, np.int8)
    for step in range(1, len(scores)):
        from_before = np.concatenate([[-np.inf], best[:-1]])
        from_two = np.where(skips, np.concatenate([[-np.inf, -np.inf], best[:-2]]), -np.inf)
        arrivals = np.stack([best, from_before, from_two[: len(best)]])
        moves[step] = arrivals.argmax(axis=0)
        best = arrivals.max(axis=0) + scores[step]
    state = len(states) - 1 if len(label) == 0 or best[-1] >= best[-2] else len(states) - 2
    path = np.empty(len(scores), int)
    for step in range(len(scores) - 1, -1, -1):
        path[step] = state
        state -= moves[step, state]
    emitting = [np.flatnonzero(path == 2 * i + 1) for i in range(len(label))]
    return [(int(found[0]), int(found[-1]) + 1) for found in emitting]


def spans(steps: Steps, time_steps: int, width: int = 1) -> list[tuple[float, float]]:
    """The horizontal extent of each character in a picture of that width."""
    if not steps:
        return []
    centres = [(start + end) / 2 for start, end in steps]
    middles = [(left + right) / 2 for left, right in itertools.pairwise(centres)]
    # A lone character has no neighbour: it gets a time step on either side.
    first = middles[0] - centres[0] if middles else 1.0
    last = centres[-1] - middles[-1] if middles else 1.0
    edges = [centres[0] - first, *middles, centres[-1] + last]
    places = [min(max(edge / time_steps, 0.0), 1.0) * width for edge in edges]
    return list(itertools.pairwise(places))
