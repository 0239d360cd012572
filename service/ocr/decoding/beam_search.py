"""Prefix beam search: the most probable texts, with or without a constraint.

The probabilities of paths that spell the same prefix are summed, separately for paths that end
in a blank and paths that do not (Graves et al. 2006; Hannun 2017, "Sequence Modeling with CTC"). A
constraint is an automaton, in which every prefix has a state. With a constraint, the rank of a
prefix is its probability times the probability of its best continuation, so that the beam always
keeps a prefix that can satisfy the constraint.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from service.ocr.decoding.constraints import Automaton
from service.ocr.decoding.likelihood import log_likelihoods

Label = tuple[int, ...]

_Doubles = NDArray[np.float64]
_Beams = dict[Label, tuple[float, float, int]]
"""For each prefix: the probability of its paths that end in a blank, the probability of its other
paths, and its state in the automaton."""

_NO_PROBABILITY = (0.0, 0.0)

_Continuations = Callable[[int], Sequence[tuple[int, int]]]
"""For a state, the classes that may come next, with the states that they lead to."""

_BEAM_WIDTH = 64
"""Largest number of prefixes that are kept after a time step."""

_MAX_EXPANDED = 4000
"""Total number of expanded prefixes after which only `min_kept` prefixes are kept. This bounds the
time for pictures without text; if there is a text, it is found before."""

_EXTRA_CANDIDATES = 2
"""Texts in addition to the requested ones whose probability is computed exactly."""

_PRUNING_RATIO = 1e-4
"""A prefix this much less probable than the best prefix is dropped, and a symbol this improbable is
not appended, unless fewer prefixes than needed would be left."""

_NEGLIGIBLE_RATIO = 1e-9
"""A symbol this much less probable than a prefix's best continuation is not appended."""


def most_probable(
    probabilities: NDArray[np.floating],
    blank_index: int,
    count: int,
    constraint: Automaton | None = None,
) -> list[tuple[Label, float]]:
    """The `count` most probable texts that satisfy the constraint, the best first.

    A text that is slightly more probable may be missed if the constraint excludes all texts that
    the picture suggests, since the search follows a limited number of texts.

    Args:
        probabilities: `(time steps, classes)`, each row a distribution.
        constraint: an automaton over the classes without the blank, in their order.

    Returns:
        Labels and the natural logarithms of their probabilities over all alignments; fewer than
        `count` if there are no more, none if no text satisfies the constraint.
    """
    rows = probabilities.astype(np.float64)
    if constraint is None:
        beams = _search(rows, blank_index, min_kept=count + _EXTRA_CANDIDATES)
    else:
        beams = _search_within(rows, blank_index, constraint, min_kept=count + _EXTRA_CANDIDATES)
    # Pruning may have dropped alignments, so the order is not exact yet.
    by_probability = sorted(beams, key=lambda prefix: sum(beams[prefix][:2]), reverse=True)
    labels = by_probability[: count + _EXTRA_CANDIDATES]
    scores = log_likelihoods(rows, labels, blank_index)
    ranked = sorted(zip(labels, scores, strict=True), key=lambda item: item[1], reverse=True)
    return [(label, score) for label, score in ranked if score > -math.inf][:count]


def _search(rows: _Doubles, blank_index: int, min_kept: int) -> _Beams:
    beams: _Beams = {(): (1.0, 0.0, 0)}
    expanded = 0
    likely = _likely(rows, blank_index, 2 * min_kept)
    for row, symbols in zip(rows.tolist(), likely, strict=True):
        if not symbols:
            blank = row[blank_index]
            beams = {
                prefix: (
                    (in_blank + in_symbol) * blank,
                    in_symbol * row[prefix[-1]] if prefix else 0.0,
                    state,
                )
                for prefix, (in_blank, in_symbol, state) in beams.items()
            }
            continue
        beams = _extended(beams, row, blank_index, partial(_always, symbols))
        expanded += len(beams)
        ranks = {prefix: beam[0] + beam[1] for prefix, beam in beams.items()}
        beams = _pruned(beams, ranks, _PRUNING_RATIO * max(ranks.values()), min_kept, expanded)
    return beams


def _likely(rows: _Doubles, blank_index: int, min_kept: int) -> list[list[tuple[int, int]]]:
    """For each time step, the symbols that may be appended, each with the state 0."""
    symbols = rows.copy()
    symbols[:, blank_index] = 0
    # As many symbols as the greedy text can have, one per time step, and `min_kept` more.
    threshold = np.sort(symbols, axis=None)[-min(symbols.size, len(rows) + min_kept)]
    likely: list[list[tuple[int, int]]] = [[] for _ in rows]
    for step, symbol in np.argwhere(
        symbols >= min(_PRUNING_RATIO, max(threshold, 1e-300))
    ).tolist():
        likely[step].append((symbol, 0))
    return likely


def _always(continuations: list[tuple[int, int]], state: int) -> list[tuple[int, int]]:
    return continuations


def _search_within(
    rows: _Doubles, blank_index: int, constraint: Automaton, min_kept: int
) -> _Beams:
    with np.errstate(divide="ignore"):
        logs = np.log(rows)
    classes = np.delete(np.arange(logs.shape[1]), blank_index)
    backward_scores, promising = _backward_scores(logs, blank_index, classes, constraint)
    beams: _Beams = {(): (1.0, 0.0, 0)}
    expanded = 0
    for row, backward, symbols in zip(rows.tolist(), backward_scores, promising, strict=True):
        continuations = cache(partial(_continuations, symbols, constraint.transitions, classes))
        beams = _extended(beams, row, blank_index, continuations)
        expanded += len(beams)
        ranks = {
            prefix: rank
            for prefix, rank in zip(beams, _ranks(beams, backward, blank_index), strict=True)
            if rank > -math.inf
        }
        least = math.log(_PRUNING_RATIO) + max(ranks.values(), default=0.0)
        beams = _pruned(beams, ranks, least, min_kept, expanded)
    return {p: beam for p, beam in beams.items() if constraint.accepting[beam[2]]}


def _continuations(
    symbols: NDArray[np.bool_],
    transitions: NDArray[np.int32],
    classes: NDArray[np.intp],
    state: int,
) -> list[tuple[int, int]]:
    """The classes in `symbols` that may come next in a state, with the states they lead to."""
    begun = np.flatnonzero(symbols[state])
    return list(zip(classes[begun].tolist(), transitions[state, begun].tolist(), strict=True))


def _ranks(beams: _Beams, backward: _Doubles, blank_index: int) -> list[float]:
    """For each prefix, the logarithm of its probability times that of its best continuation."""
    masses = np.array([beam[:2] for beam in beams.values()]).reshape(-1, 2)
    states = [beam[2] for beam in beams.values()]
    last = [prefix[-1] if prefix else blank_index for prefix in beams]
    with np.errstate(divide="ignore"):
        in_blank, in_symbol = np.log(masses).T
    ranks: list[float] = np.maximum(
        in_blank + backward[states, blank_index], in_symbol + backward[states, last]
    ).tolist()
    return ranks


def _extended(
    beams: _Beams, row: Sequence[float], blank_index: int, continuations: _Continuations
) -> _Beams:
    """The prefixes after one more time step: unchanged, and with each symbol that may follow."""
    extended: _Beams = {}
    blank = row[blank_index]
    for prefix, (in_blank, in_symbol, state) in beams.items():
        both = in_blank + in_symbol
        last = prefix[-1] if prefix else blank_index
        old = extended.get(prefix, _NO_PROBABILITY)
        extended[prefix] = (old[0] + both * blank, old[1] + in_symbol * row[last], state)
        for symbol, target in continuations(state):
            # A repeated symbol is a new symbol only after a blank.
            before = in_blank if symbol == last else both
            if before:
                longer = (*prefix, symbol)
                old = extended.get(longer, _NO_PROBABILITY)
                extended[longer] = (old[0], old[1] + before * row[symbol], target)
    return extended


def _pruned(
    beams: _Beams, ranks: dict[Label, float], least: float, min_kept: int, expanded: int
) -> _Beams:
    """Keeps the prefixes whose rank is above `least`, but at least `min_kept` of them.

    Scales their probabilities, so that these do not underflow in long pictures.
    """
    max_kept = _BEAM_WIDTH if expanded < _MAX_EXPANDED else min_kept
    kept = sorted(ranks, key=ranks.__getitem__, reverse=True)[:max_kept]
    kept = kept[:min_kept] + [prefix for prefix in kept[min_kept:] if ranks[prefix] > least]
    scale = max((beams[prefix][0] + beams[prefix][1] for prefix in kept), default=1.0)
    return {
        prefix: (in_blank / scale, in_symbol / scale, state)
        for prefix in kept
        for in_blank, in_symbol, state in (beams[prefix],)
    }


def _backward_scores(
    logs: _Doubles, blank_index: int, classes: NDArray[np.intp], constraint: Automaton
) -> tuple[list[_Doubles], list[NDArray[np.bool_]]]:
    """For each time step, scores of the continuations after it, and symbols worth appending in it.

    Args:
        classes: the classes of the constraint's symbols.

    Returns:
        For each time step, log-probabilities `(states, classes)` of the best path to an accepting
        state, by the state and the class emitted last. And for each time step, `(states, symbols)`:
        whether the best continuation that begins with the symbol is not negligible.
    """
    states = np.arange(len(constraint.accepting))
    ends = np.where(constraint.accepting, 0.0, -np.inf)
    backward = np.repeat(ends[:, np.newaxis], logs.shape[1], axis=1)
    backward_scores, promising = [], []
    for row in logs[::-1]:
        backward_scores.append(backward)
        targets = constraint.transitions
        begin = np.where(targets >= 0, row[classes] + backward[targets, classes], -np.inf)
        best = begin.argmax(axis=1)
        first = begin[states, best]
        blank = row[blank_index] + backward[:, blank_index]
        least = math.log(_NEGLIGIBLE_RATIO) + np.maximum(first, blank)
        promising.append((begin > -np.inf) & (begin >= least[:, np.newaxis]))
        begin[states, best] = -np.inf
        second = begin.max(axis=1)
        earlier = np.maximum(np.maximum(first, blank)[:, np.newaxis], row + backward)
        # If the last symbol is also a state's best symbol, emitting it only repeats it.
        own = classes[best]
        earlier[states, own] = np.maximum(
            np.maximum(second, blank), row[own] + backward[states, own]
        )
        backward = earlier
    return backward_scores[::-1], promising[::-1]
