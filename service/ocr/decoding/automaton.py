"""Deterministic finite automata over a model's alphabet: which texts a reading may be."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.ocr.exceptions import ConstraintError, echo

MAX_STATES = 2000
"""A constraint that needs more is refused, since decoding takes time for each."""

NOWHERE = -1
"""Stands in a table of transitions for: no text goes on so."""


@dataclass(frozen=True, slots=True, eq=False)
class Automaton:
    """A deterministic finite automaton; state 0 is its start.

    Args:
        transitions: `(states, symbols)`, the next state, or -1 where no text goes on so; the
            symbols in the order of the model's alphabet.
        accepting: `(states,)`, whether a text may end there.
    """

    transitions: NDArray[np.int32]
    accepting: NDArray[np.bool_]

    def accepts(self, text: str, alphabet: str) -> bool:
        """Whether a text is allowed; one with a symbol that the alphabet lacks never is."""
        state = 0
        for symbol in text:
            index = alphabet.find(symbol)
            state = NOWHERE if index < 0 else int(self.transitions[state, index])
            if state == NOWHERE:
                return False
        return bool(self.accepting[state])

    def intersect(self, other: "Automaton") -> "Automaton":
        """The texts that both allow: the reachable part of the product.

        Raises:
            ConstraintError: it has over `MAX_STATES` states.
        """
        width = len(other.accepting)

        def successors(pair: int) -> list[int]:
            one, two = self.transitions[pair // width], other.transitions[pair % width]
            return np.where(np.minimum(one, two) < 0, NOWHERE, one * width + two).tolist()

        pairs, transitions = explored(0, successors)
        one, two = np.divmod(pairs, width)
        return Automaton(transitions, self.accepting[one] & other.accepting[two])

    def trimmed(self) -> "Automaton":
        """The same texts, but no way into a state that none of them passes."""
        hopeful = self._hopeful()
        kept = hopeful | (np.arange(len(hopeful)) == 0)
        # The last number is the one that -1 looks up.
        numbers = np.append(np.where(hopeful, np.cumsum(kept) - 1, NOWHERE), NOWHERE)
        return Automaton(numbers[self.transitions[kept]].astype(np.int32), self.accepting[kept])

    @property
    def is_empty(self) -> bool:
        """Whether no text is allowed, not even the empty one."""
        return not self._hopeful()[0]

    def _hopeful(self) -> NDArray[np.bool_]:
        """`(states,)`, whether an accepting state can be reached."""
        predecessors: list[list[int]] = [[] for _ in self.accepting]
        for state, targets in enumerate(self.transitions):
            for target in set(targets.tolist()) - {NOWHERE}:
                predecessors[target].append(state)
        hopeful, pending = self.accepting.copy(), np.flatnonzero(self.accepting).tolist()
        while pending:
            new = [state for state in predecessors[pending.pop()] if not hopeful[state]]
            hopeful[new] = True
            pending += new
        return hopeful


def of_length(shortest: int, longest: int, alphabet: str) -> Automaton:
    """The texts of `shortest` to `longest` symbols.

    Raises:
        ConstraintError: not 0 ≤ shortest ≤ longest < `MAX_STATES`.
    """
    if not 0 <= shortest <= longest < MAX_STATES:
        raise ConstraintError(
            f"a length of {shortest} to {longest} cannot be; "
            f"it takes 0 ≤ shortest ≤ longest < {MAX_STATES}"
        )
    states = np.arange(longest + 1, dtype=np.int32)
    following = np.where(states < longest, states + 1, NOWHERE).astype(np.int32)
    return Automaton(np.repeat(following[:, None], len(alphabet), axis=1), states >= shortest)


def of_symbols(symbols: str, alphabet: str) -> Automaton:
    """The texts of these symbols alone, each any number of times.

    Raises:
        ConstraintError: the alphabet lacks one of them.
    """
    if unknown := sorted(set(symbols) - set(alphabet)):
        raise ConstraintError(
            f"symbols {echo(symbols)} have {echo(''.join(unknown))}, "
            f"which the alphabet {alphabet!r} lacks"
        )
    row = [0 if symbol in symbols else NOWHERE for symbol in alphabet]
    return Automaton(np.array([row], np.int32), np.array([True]))


def explored(
    start: int, successors: Callable[[int], Iterable[int]]
) -> tuple[list[int], NDArray[np.int32]]:
    """What can be reached from a start by a breadth-first walk.

    Returns:
        What was found, the start first, and its transitions by number, `(states, symbols)`.

    Raises:
        ConstraintError: it is over `MAX_STATES`.
    """
    numbers = {NOWHERE: NOWHERE, start: 0}
    found, rows = [start], []
    for state in found:
        row = []
        for target in successors(state):
            row.append(numbers.setdefault(target, len(found)))
            if row[-1] == len(found):
                found.append(target)
        check_states(len(found))
        rows.append(row)
    return found, np.array(rows, np.int32)


def check_states(count: int) -> None:
    """Bounds how large a constraint may become.

    Raises:
        ConstraintError: `count` is over `MAX_STATES`.
    """
    if count > MAX_STATES:
        raise ConstraintError(
            f"the constraint needs over {MAX_STATES} states; "
            "smaller counts or fewer alternatives make it simpler"
        )
