"""The probability of texts: CTC's forward algorithm.

For one text the recursion runs over plain floats: for its few states an array operation costs more
than what it computes. Several texts share the operations on arrays, which then pay
(`make bench-decoding`).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_STEPS_BETWEEN_SCALINGS = 16
"""Probabilities are at least 1e-9, and so many of them stay within the range of numbers."""

_LEAST = 1e-280
"""Above it, what was lost below the range of numbers is nothing beside what was not."""


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
    # Beside the most probable class of every time step, what is probable stays within the range of
    # numbers, however many time steps there are.
    largest = probabilities.max(axis=1)
    beside = (probabilities / largest[:, np.newaxis]).T
    blanks = beside[blank_index].tolist()
    # Of having emitted all symbols before the next one, and the last of them in the step before.
    arrivals = [1.0, *[0.0] * len(blanks)]
    last = None
    for symbol in label:
        straight = float(symbol != last)  # without a blank between
        in_symbol = in_blank = 0.0
        departures = [0.0]
        emissions = beside[symbol].tolist()
        for arriving, blank, emission in zip(arrivals, blanks, emissions, strict=False):
            in_symbol = (in_symbol + in_blank + straight * arriving) * emission
            in_blank = (in_blank + arriving) * blank
            departures.append(in_symbol)
        arrivals, last = departures, symbol
    in_blank = 0.0
    for arriving, blank in zip(arrivals, blanks, strict=False):
        in_blank = (in_blank + arriving) * blank
    # A path ends in the last symbol or in the blank behind it.
    total = arrivals[-1] + in_blank
    if _LEAST < total < math.inf:
        return math.log(total) + float(np.log(largest).sum())
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
