"""The probability of texts, by CTC's forward algorithm.

A single text is computed with plain floats, because it has too few states for array operations to
be faster. Several texts share array operations (`make bench-decoding`).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_STEPS_BETWEEN_SCALINGS = 16
"""Time steps. Probabilities are at least 1e-9, so that products of this many do not underflow."""

_MIN_LIKELIHOOD = 1e-280
"""Above this likelihood, the terms that have underflowed are negligible."""


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
        The natural logarithm; minus infinity if the label does not fit the time steps.
    """
    # Relative to the most probable class of each time step, no probable value underflows.
    largest = probabilities.max(axis=1)
    relative = (probabilities / largest[:, np.newaxis]).T
    blanks = relative[blank_index].tolist()
    # By time step: probability that all symbols so far were emitted, the last in the step before.
    arrivals = [1.0, *[0.0] * len(blanks)]
    last = None
    for symbol in label:
        straight = float(symbol != last)  # 1 if no blank is needed before the symbol
        in_symbol = in_blank = 0.0
        departures = [0.0]
        emissions = relative[symbol].tolist()
        for arriving, blank, emission in zip(arrivals, blanks, emissions, strict=False):
            in_symbol = (in_symbol + in_blank + straight * arriving) * emission
            in_blank = (in_blank + arriving) * blank
            departures.append(in_symbol)
        arrivals, last = departures, symbol
    in_blank = 0.0
    for arriving, blank in zip(arrivals, blanks, strict=False):
        in_blank = (in_blank + arriving) * blank
    # A path ends in the last symbol or in the blank after it.
    total = arrivals[-1] + in_blank
    if _MIN_LIKELIHOOD < total < math.inf:
        return math.log(total) + float(np.log(largest).sum())
    return _in_logarithms(probabilities, _states(label, blank_index))


def log_likelihoods(
    probabilities: NDArray[np.float64], labels: Sequence[Sequence[int]], blank_index: int
) -> list[float]:
    """Gives the `log_likelihood` of each of several labels.

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
    padded_forward = np.zeros((len(labels), width + 2))
    forward = padded_forward[:, 2:]
    forward[:, :2] = emissions[0, :, :2]
    log_scale = np.zeros(len(labels))
    for step, emission in enumerate(emissions[1:], 1):
        arriving = skips * padded_forward[:, :-2]
        arriving += padded_forward[:, 1:-1]
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
    """The same recursion in logarithms, for labels so improbable that probabilities underflow."""
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities)[:, [symbol for symbol, _ in states]]
    skips = np.array([skip for _, skip in states])
    forward = np.where(np.arange(len(states)) < 2, logs[0], -np.inf)
    never = np.array([-np.inf, -np.inf])
    for row in logs[1:]:
        padded_forward = np.concatenate([never, forward])
        arriving = np.logaddexp(forward, padded_forward[1:-1])
        forward = row + np.where(skips, np.logaddexp(arriving, padded_forward[:-2]), arriving)
    return float(np.logaddexp.reduce(forward[-2:]))
