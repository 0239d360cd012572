"""The probability of texts: CTC's forward algorithm.

For one text the recursion runs over plain floats: for its few states an array operation costs more
than what it computes. Several texts share the operations on arrays, which then pay
(`make bench-decoding`).
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_STEPS_BETWEEN_SCALINGS = 16
"""Probabilities are at least 1e-9, and so many of them stay within the range of numbers."""


def log_likelihood(
    probabilities: NDArray[np.float64], label: Sequence[int], blank_index: int
) -> float:
    """How probable a label is, summed over all of its alignments.

    The forward variable of Graves et al. 2006, "Connectionist Temporal Classification", section
    4.1: the states are the label's symbols with a blank around each.

    Args:
        probabilities: `(time steps, classes)`.
        label: classes without blanks.

    Returns:
        The natural logarithm; minus infinity where the label does not fit the time steps.
    """
    blanks = probabilities[:, blank_index].tolist()
    if not label:
        return sum(map(math.log, blanks)) if min(blanks) else -math.inf
    emissions = probabilities[:, list(label)].tolist()
    # Of each symbol and of the blank before it, and whether that blank may be left out.
    in_symbol = [emissions[0][0], *[0.0] * (len(label) - 1)]
    in_blank = [blanks[0], *[0.0] * (len(label) - 1)]
    skips = [False, *(left != right for left, right in itertools.pairwise(label))]
    behind = log_scale = 0.0  # in the blank behind the last symbol
    for step in range(1, len(blanks)):
        blank = blanks[step]
        last = 0.0
        symbols, before = in_symbol, in_blank
        in_symbol, in_blank = [], []
        for here, pause, emission, skip in zip(
            symbols, before, emissions[step], skips, strict=True
        ):
            in_blank.append((pause + last) * blank)
            in_symbol.append((here + pause + last if skip else here + pause) * emission)
            last = here
        behind = (behind + last) * blank
        if step % _STEPS_BETWEEN_SCALINGS == 0:
            scale = max(*in_symbol, *in_blank, behind)
            if scale == 0:
                break
            in_symbol = [value / scale for value in in_symbol]
            in_blank = [value / scale for value in in_blank]
            behind /= scale
            log_scale += math.log(scale)
    # A path ends in the last symbol or in the blank behind it.
    total = in_symbol[-1] + behind
    if total:
        return math.log(total) + log_scale
    return _in_logarithms(probabilities, _states(label, blank_index))


def log_likelihoods(
    probabilities: NDArray[np.float64], labels: Sequence[Sequence[int]], blank_index: int
) -> list[float]:
    """`log_likelihood` of several labels at once.

    Args:
        probabilities: `(time steps, classes)`.
    """
    if not labels:
        return []
    states = [_states(label, blank_index) for label in labels]
    width = max(map(len, states))
    # States behind a label's own lead nowhere that is looked at.
    padded = [[*own, *[(blank_index, False)] * (width - len(own))] for own in states]
    symbols = np.array([[symbol for symbol, _ in row] for row in padded])
    skips = np.array([[float(skip) for _, skip in row] for row in padded])
    emissions = probabilities[:, symbols]
    behind = np.zeros((len(labels), width + 2))
    forward = behind[:, 2:]
    forward[:, :2] = emissions[0, :, :2]
    log_scale = np.zeros(len(labels))
    for step, emission in enumerate(emissions[1:], 1):
        arriving = skips * behind[:, :-2]
        arriving += behind[:, 1:-1]
        arriving += forward
        np.multiply(arriving, emission, out=forward)
        if step % _STEPS_BETWEEN_SCALINGS == 0:
            scale = forward.max(axis=1)
            scale[scale == 0] = 1
            forward /= scale[:, np.newaxis]
            log_scale += np.log(scale)
    totals = [sum(row[: len(own)][-2:]) for row, own in zip(forward.tolist(), states, strict=True)]
    return [
        math.log(total) + scale if total else _in_logarithms(probabilities, own)
        for total, scale, own in zip(totals, log_scale.tolist(), states, strict=True)
    ]


def _states(label: Sequence[int], blank_index: int) -> list[tuple[int, bool]]:
    """The symbol of each state, and whether the blank before it may be left out.

    That is so between two different symbols.
    """
    symbols = [blank_index] * (2 * len(label) + 1)
    symbols[1::2] = label
    return [
        (symbol, state > 1 and symbol not in (blank_index, symbols[state - 2]))
        for state, symbol in enumerate(symbols)
    ]


def _in_logarithms(probabilities: NDArray[np.float64], states: Sequence[tuple[int, bool]]) -> float:
    """The same recursion where the paths that matter are lost beside far more probable ones."""
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities)[:, [symbol for symbol, _ in states]]
    skips = np.array([skip for _, skip in states])
    forward = np.where(np.arange(len(states)) < 2, logs[0], -np.inf)
    never = np.array([-np.inf, -np.inf])
    for row in logs[1:]:
        behind = np.concatenate([never, forward])
        arriving = np.logaddexp(forward, behind[1:-1])
        forward = row + np.where(skips, np.logaddexp(arriving, behind[:-2]), arriving)
    return float(np.logaddexp.reduce(forward[-2:]))
