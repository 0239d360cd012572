"""Prefix beam search: the most probable texts, with or without a constraint.

The probabilities of paths that spell the same prefix are summed, apart for paths that end in a
blank and paths that do not (Graves et al. 2006; Hannun 2017, "Sequence Modeling with CTC"). A
constraint is an automaton, in which every prefix has a state. With one, prefixes are ranked by
their probability times that of their best continuation, so that the beam always keeps a prefix
that can satisfy the constraint.
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
"""For each prefix: the probability of its paths that end in a blank, that of the others, and its
state in the automaton."""

_NO_MASS = (0.0, 0.0)

_Continuations = Callable[[int], Sequence[tuple[int, int]]]
"""For a state, the classes that may come next and the states that they lead to."""

_WIDTH = 64
"""The most prefixes that are kept."""

_MOST_FOLLOWED = 4000
"""Prefixes in all after which the beam is narrowed to the fewest. This bounds the time for pictures
without text; with a text, it is found before."""

_SPARE = 2
"""Texts beyond those asked for whose probability is computed exactly, too."""

_HOPELESS = 1e-4
"""A prefix this much less probable than the best one is dropped, and a symbol this improbable is
not appended, unless fewer prefixes than needed would be left."""

_NEGLIGIBLE = 1e-9
"""A symbol this much less probable than a prefix's best continuation is not appended."""


def most_probable(
    probabilities: NDArray[np.floating],
    blank_index: int,
    count: int,
    constraint: Automaton | None = None,
) -> list[tuple[Label, float]]:
    """The `count` most probable texts that satisfy the constraint, the best first.

    Args:
        probabilities: `(time steps, classes)`, each row a distribution.
        constraint: over the classes without the blank, in their order.

    Returns:
        Labels and the natural logarithms of their probabilities over all alignments; fewer than
        `count` where there are no more, none where nothing satisfies the constraint.
    """
    rows = probabilities.astype(np.float64)
    if constraint is None:
        beams = _search(rows, blank_index, fewest=count + _SPARE)
    else:
        beams = _search_within(rows, blank_index, constraint, fewest=count + _SPARE)
    # Pruning may have dropped alignments, so the order is not exact yet.
    by_mass = sorted(beams, key=lambda prefix: sum(beams[prefix][:2]), reverse=True)
    labels = by_mass[: count + _SPARE]
    scores = log_likelihoods(rows, labels, blank_index)
    ranked = sorted(zip(labels, scores, strict=True), key=lambda item: item[1], reverse=True)
    return [(label, score) for label, score in ranked if score > -math.inf][:count]


def _search(rows: _Doubles, blank_index: int, fewest: int) -> _Beams:
    beams: _Beams = {(): (1.0, 0.0, 0)}
    followed = 0
    likely = _likely(rows, blank_index, 2 * fewest)
    for row, symbols in zip(rows.tolist(), likely, strict=True):
        if not symbols:
            pause = row[blank_index]
            beams = {
                prefix: (
                    (in_blank + in_symbol) * pause,
                    in_symbol * row[prefix[-1]] if prefix else 0.0,
                    state,
                )
                for prefix, (in_blank, in_symbol, state) in beams.items()
            }
            continue
        beams = _extended(beams, row, blank_index, partial(_always, symbols))
        followed += len(beams)
        ranks = {prefix: beam[0] + beam[1] for prefix, beam in beams.items()}
        beams = _pruned(beams, ranks, _HOPELESS * max(ranks.values()), fewest, followed)
    return beams


def _likely(rows: _Doubles, blank_index: int, fewest: int) -> list[list[tuple[int, int]]]:
    """For each time step the symbols that may be appended, with the state 0."""
    symbols = rows.copy()
    symbols[:, blank_index] = 0
    # The symbols of the greedy text, one a time step at the most, and `fewest` more.
    order = np.sort(symbols, axis=None)[-min(symbols.size, len(rows) + fewest)]
    likely: list[list[tuple[int, int]]] = [[] for _ in rows]
    for step, symbol in np.argwhere(symbols >= min(_HOPELESS, max(order, 1e-300))).tolist():
        likely[step].append((symbol, 0))
    return likely


def _always(continuations: list[tuple[int, int]], state: int) -> list[tuple[int, int]]:
    return continuations


def _search_within(rows: _Doubles, blank_index: int, constraint: Automaton, fewest: int) -> _Beams:
    with np.errstate(divide="ignore"):
        logs = np.log(rows)
    classes = np.delete(np.arange(logs.shape[1]), blank_index)
    outlooks, promising = _outlooks(logs, blank_index, classes, constraint)
    beams: _Beams = {(): (1.0, 0.0, 0)}
    followed = 0
    for row, outlook, symbols in zip(rows.tolist(), outlooks, promising, strict=True):
        continuations = cache(partial(_continuations, symbols, constraint.transitions, classes))
        beams = _extended(beams, row, blank_index, continuations)
        followed += len(beams)
        ranks = {
            prefix: rank
            for prefix, rank in zip(beams, _ranks(beams, outlook, blank_index), strict=True)
            if rank > -math.inf
        }
        least = math.log(_HOPELESS) + max(ranks.values(), default=0.0)
        beams = _pruned(beams, ranks, least, fewest, followed)
    return {p: beam for p, beam in beams.items() if constraint.accepting[beam[2]]}


def _continuations(
    symbols: NDArray[np.bool_],
    transitions: NDArray[np.int32],
    classes: NDArray[np.intp],
    state: int,
) -> list[tuple[int, int]]:
    """The classes that may come next in a state, of `symbols`, and where they lead."""
    begun = np.flatnonzero(symbols[state])
    return list(zip(classes[begun].tolist(), transitions[state, begun].tolist(), strict=True))


def _ranks(beams: _Beams, outlook: _Doubles, blank_index: int) -> list[float]:
    """The logarithm of each prefix's probability times that of its best continuation."""
    masses = np.array([beam[:2] for beam in beams.values()]).reshape(-1, 2)
    states = [beam[2] for beam in beams.values()]
    last = [prefix[-1] if prefix else blank_index for prefix in beams]
    with np.errstate(divide="ignore"):
        in_blank, in_symbol = np.log(masses).T
    ranks: list[float] = np.maximum(
        in_blank + outlook[states, blank_index], in_symbol + outlook[states, last]
    ).tolist()
    return ranks


def _extended(
    beams: _Beams, row: Sequence[float], blank_index: int, continuations: _Continuations
) -> _Beams:
    """Every prefix after one more time step: unchanged, and with each symbol that may follow."""
    extended: _Beams = {}
    pause = row[blank_index]
    for prefix, (in_blank, in_symbol, state) in beams.items():
        both = in_blank + in_symbol
        last = prefix[-1] if prefix else blank_index
        old = extended.get(prefix, _NO_MASS)
        extended[prefix] = (old[0] + both * pause, old[1] + in_symbol * row[last], state)
        for symbol, target in continuations(state):
            # The last symbol again is a new symbol only after a blank.
            before = in_blank if symbol == last else both
            if before:
                longer = (*prefix, symbol)
                old = extended.get(longer, _NO_MASS)
                extended[longer] = (old[0], old[1] + before * row[symbol], target)
    return extended


def _pruned(
    beams: _Beams, ranks: dict[Label, float], least: float, fewest: int, followed: int
) -> _Beams:
    """Keeps the ranked prefixes above the least rank, but at least `fewest`.

    Their probabilities are scaled, so that they do not underflow in long pictures.
    """
    most = _WIDTH if followed < _MOST_FOLLOWED else fewest
    kept = sorted(ranks, key=ranks.__getitem__, reverse=True)[:most]
    kept = kept[:fewest] + [prefix for prefix in kept[fewest:] if ranks[prefix] > least]
    scale = max((beams[prefix][0] + beams[prefix][1] for prefix in kept), default=1.0)
    return {
        prefix: (in_blank / scale, in_symbol / scale, state)
        for prefix in kept
        for in_blank, in_symbol, state in (beams[prefix],)
    }


def _outlooks(
    logs: _Doubles, blank_index: int, classes: NDArray[np.intp], constraint: Automaton
) -> tuple[list[_Doubles], list[NDArray[np.bool_]]]:
    """For each time step: the best continuations after it, and the symbols worth appending in it.

    Args:
        classes: those of the constraint's symbols.

    Returns:
        Log-probabilities `(states, classes)` of the best path to an accepting state, by the state
        and the class emitted last. And `(states, symbols)`: whether the best continuation with
        that symbol is not negligible.
    """
    states = np.arange(len(constraint.accepting))
    ends = np.where(constraint.accepting, 0.0, -np.inf)
    outlook = np.repeat(ends[:, np.newaxis], logs.shape[1], axis=1)
    outlooks, promising = [], []
    for row in logs[::-1]:
        outlooks.append(outlook)
        targets = constraint.transitions
        begin = np.where(targets >= 0, row[classes] + outlook[targets, classes], -np.inf)
        best = begin.argmax(axis=1)
        first = begin[states, best]
        pause = row[blank_index] + outlook[:, blank_index]
        least = math.log(_NEGLIGIBLE) + np.maximum(first, pause)
        promising.append((begin > -np.inf) & (begin >= least[:, np.newaxis]))
        begin[states, best] = -np.inf
        second = begin.max(axis=1)
        earlier = np.maximum(np.maximum(first, pause)[:, np.newaxis], row + outlook)
        # After the same symbol, a state's best symbol would be a repetition and not a new one.
        own = classes[best]
        earlier[states, own] = np.maximum(
            np.maximum(second, pause), row[own] + outlook[states, own]
        )
        outlook = earlier
    return outlooks[::-1], promising[::-1]
