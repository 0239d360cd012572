"""The probability of texts, by CTC's forward algorithm.

One text is computed with plain floats, since it has too few states for array operations to pay.
Several texts share array operations (`make bench-decoding`).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_STEPS_BETWEEN_SCALINGS = 16
"""Probabilities are at least 1e-9, so that products of this many do not underflow."""

_LEAST = 1e-280
"""Above it, what has underflowed on the way is negligible."""


def log_likelihood(
    probabilities: NDArray[np.float64], label: Sequence[int], blank_index: int
) -> float:
    """Gives the log-probability of a label, summed over all of its alignments.

    The forward variable of Graves et al. 2006, "Connectionist Temporal Classification", section
    4.1: the states are the label's symbols with a blank around each.

    Args:
        probabilities: `(time steps, classes)`.
        label: classes without blanks.

    Returns:
        The natural logarithm; minus infinity where the label does not fit the time steps.
    """
    # Relative to the most probable class of every time step, nothing probable underflows.
    largest = probabilities.max(axis=1)
    beside = (probabilities / largest[:, np.newaxis]).T
    blanks = beside[blank_index].tolist()
    # By time step: the probability that the symbols so far were emitted, the last one just before.
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
    """Gives `log_likelihood` of several labels.

    Args:
        probabilities: `(time steps, classes)`.
    """
    if not labels:
        return []
    states = [_states(label, blank_index) for label in labels]
    width = max(map(len, states))
    # Padding follows a label's own states, and its values are not read.
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

    It may be left out between two different symbols.
    """
    symbols = [blank_index] * (2 * len(label) + 1)
    symbols[1::2] = label
    return [
        (symbol, state > 1 and symbol not in (blank_index, symbols[state - 2]))
        for state, symbol in enumerate(symbols)
    ]


def _in_logarithms(probabilities: NDArray[np.float64], states: Sequence[tuple[int, bool]]) -> float:
    """The same recursion in logarithms, for labels so improbable that the others underflow."""
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
