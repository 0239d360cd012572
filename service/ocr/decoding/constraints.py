r"""Constraints on the text of a reading: a length, an alphabet, a pattern.

Each constraint is compiled to a deterministic finite automaton over the model's alphabet, and
several automata are intersected. The beam search then follows no text that they exclude.

Patterns are a subset of regular expressions, compiled without backtracking: recursive descent, an
NFA (Thompson 1968, "Regular Expression Search Algorithm"), the subset construction (Rabin & Scott
1959, "Finite Automata and Their Decision Problems"). The supported syntax means the same as
in `re.fullmatch`, except that `.` is any symbol of the alphabet; all other syntax is refused.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np
from numpy.typing import NDArray

from service.ocr.exceptions import ConstraintError, echo

MAX_STATES = 2000
"""Largest number of states; bounds the time of decoding, which grows with the states."""

_MAX_TRANSITIONS = 10_000
"""Largest states × symbols; bounds the time and memory (5 MB at 50 time steps) of decoding."""

MAX_PATTERN_LENGTH, MAX_COUNT, MAX_NESTING = 200, 64, 20

SUPPORTED = (
    r"literals, ., [A-Z], [^0-9], \d, \w, (...), (?:...), |, *, +, ?, {m}, {m,n}, {m,} "
    r"and \ before punctuation"
)

_NO_STATE = -1
"""Marks a transition that does not exist: no text continues with the symbol."""

_MAX_WORK = 100_000
"""Largest sum of NFA states over all DFA states; bounds the time of the subset construction."""


@dataclass(frozen=True, slots=True, eq=False)
class Automaton:
    """A deterministic finite automaton; state 0 is its start.

    Args:
        transitions: `(states, symbols)`, the next state, or -1 where no text continues with the
            symbol; the symbols are in the order of the model's alphabet.
        accepting: `(states,)`, whether a text may end there.
    """

    transitions: NDArray[np.int32]
    accepting: NDArray[np.bool_]

    def accepts(self, text: str, alphabet: str) -> bool:
        """Whether a text is allowed; it is not if it has a symbol that the alphabet lacks."""
        state = 0
        for symbol in text:
            index = alphabet.find(symbol)
            state = _NO_STATE if index < 0 else int(self.transitions[state, index])
            if state == _NO_STATE:
                return False
        return bool(self.accepting[state])

    def intersect(self, other: "Automaton") -> "Automaton":
        """The texts that both automata allow: the reachable part of their product.

        Raises:
            ConstraintError: the product has over `MAX_STATES` states.
        """
        width = len(other.accepting)

        def successors(pair: int) -> list[int]:
            one, two = self.transitions[pair // width], other.transitions[pair % width]
            return np.where(np.minimum(one, two) < 0, _NO_STATE, one * width + two).tolist()

        pairs, transitions = _explored(0, successors)
        one, two = np.divmod(pairs, width)
        return Automaton(transitions, self.accepting[one] & other.accepting[two])

    def trimmed(self) -> "Automaton":
        """The automaton for the same texts, without transitions that lead to no accepting state.

        Raises:
            ConstraintError: it has too many states for its number of symbols.
        """
        live = self._live_states()
        kept = live | (np.arange(len(live)) == 0)
        # The index `_NO_STATE`, -1, looks up the last number.
        numbers = np.append(np.where(live, np.cumsum(kept) - 1, _NO_STATE), _NO_STATE)
        transitions = numbers[self.transitions[kept]].astype(np.int32)
        if transitions.size > _MAX_TRANSITIONS:
            raise _too_large(_MAX_TRANSITIONS // transitions.shape[1])
        return Automaton(transitions, self.accepting[kept])

    @property
    def is_empty(self) -> bool:
        """Whether no text is allowed, not even the empty one."""
        return not self._live_states()[0]

    def _live_states(self) -> NDArray[np.bool_]:
        """`(states,)`, whether an accepting state can be reached."""
        predecessors: list[list[int]] = [[] for _ in self.accepting]
        for state, targets in enumerate(self.transitions):
            for target in set(targets.tolist()) - {_NO_STATE}:
                predecessors[target].append(state)
        live, pending = self.accepting.copy(), np.flatnonzero(self.accepting).tolist()
        while pending:
            new = [state for state in predecessors[pending.pop()] if not live[state]]
            live[new] = True
            pending += new
        return live


def of_length(shortest: int, longest: int, alphabet: str) -> Automaton:
    """The texts of `shortest` to `longest` symbols.

    Raises:
        ConstraintError: not 0 ≤ shortest ≤ longest < `MAX_STATES`.
    """
    if not 0 <= shortest <= longest < MAX_STATES:
        raise ConstraintError(
            f"a length of {shortest} to {longest} is not possible; "
            f"it must be 0 ≤ shortest ≤ longest < {MAX_STATES}"
        )
    states = np.arange(longest + 1, dtype=np.int32)
    following = np.where(states < longest, states + 1, _NO_STATE).astype(np.int32)
    return Automaton(np.repeat(following[:, None], len(alphabet), axis=1), states >= shortest)


def of_symbols(symbols: str, alphabet: str) -> Automaton:
    """The texts that consist only of these symbols, each any number of times.

    Raises:
        ConstraintError: the alphabet lacks one of them.
    """
    if unknown := sorted(set(symbols) - set(alphabet)):
        raise ConstraintError(
            f"symbols {echo(symbols)} have {echo(''.join(unknown))}, "
            f"which the alphabet {alphabet!r} lacks"
        )
    row = [0 if symbol in symbols else _NO_STATE for symbol in alphabet]
    return Automaton(np.array([row], np.int32), np.array([True]))


def of_pattern(pattern: str, alphabet: str) -> Automaton:
    """The texts that a regular expression matches as a whole.

    Args:
        pattern: in the syntax of `SUPPORTED`; a literal that the alphabet lacks matches nothing.
        alphabet: the model's symbols.

    Raises:
        ConstraintError: the pattern is malformed, not supported or over `MAX_PATTERN_LENGTH`
            characters long, has a count over `MAX_COUNT` or groups over `MAX_NESTING` deep, or
            needs over `MAX_STATES` states of the NFA or the DFA. Positions count from 0.
    """
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise ConstraintError(
            f"the pattern has {len(pattern)} characters; at most {MAX_PATTERN_LENGTH} are allowed"
        )
    return _Nfa(pattern, alphabet).determinized()


def _explored(
    start: int, successors: Callable[[int], Iterable[int]]
) -> tuple[list[int], NDArray[np.int32]]:
    """Numbers the states that a breadth-first walk reaches.

    Returns:
        The states, the start first, and their transitions by number, `(states, symbols)`.
    """
    numbers = {_NO_STATE: _NO_STATE, start: 0}
    found, rows = [start], []
    for state in found:
        row = []
        for target in successors(state):
            row.append(numbers.setdefault(target, len(found)))
            if row[-1] == len(found):
                found.append(target)
        _check_states(len(found))
        rows.append(row)
    return found, np.array(rows, np.int32)


def _check_states(count: int) -> None:
    if count > MAX_STATES:
        raise _too_large(MAX_STATES)


def _too_large(states: int) -> ConstraintError:
    return ConstraintError(
        f"the constraint needs over {states} states; "
        "smaller counts or fewer alternatives make it simpler"
    )


_TOKEN = re.compile(
    r"""(?P<repeat> [*+?] | \{[0-9]+(?:,[0-9]*)?\} )
      | (?P<set> \[\^?+(?:\\.|[^\]\[\\])++\] )
      | (?P<open> \(\?: | \((?!\?) ) | (?P<close> \) ) | (?P<or> \| )
      | (?P<symbol> \\. | [^\]\[\\^${}(] )
      | (?P<refused> \(\?<?.? | . ) | (?P<end> \Z )""",
    re.DOTALL | re.VERBOSE,
)
_SPAN = re.compile(r"(\\.|.)(?:-(\\.|.))?", re.DOTALL)
_COUNTS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_SHORTHANDS = {r"\d": str.isdecimal, r"\w": lambda symbol: symbol.isalnum() or symbol == "_"}

_Fragment = Callable[[int], int]
"""Adds a copy of a part of the pattern that leads to a state; returns the copy's first state."""


class _Nfa:
    """Thompson's NFA of a pattern, built backwards from its only accepting state, 0.

    A state reads a symbol of its label, or no symbol if the label is None, and leads to its exits.
    """

    def __init__(self, pattern: str, alphabet: str) -> None:
        self.pattern, self.alphabet = pattern, alphabet
        self.labels: list[frozenset[str] | None] = [None]
        self.exits: list[list[int]] = [[]]
        self.tokens = list(_TOKEN.finditer(pattern))[::-1]
        self.nesting = 0
        whole = self.choice()
        if not self.take("end"):
            raise self.error(self.tokens[-1])
        self.start = whole(0)

    def take(self, kind: str) -> re.Match[str] | None:
        return self.tokens.pop() if self.tokens[-1].lastgroup == kind else None

    def error(self, token: re.Match[str], problem: str = "") -> ConstraintError:
        return ConstraintError(
            f"pattern {self.pattern!r}: {token[0]!r} at position {token.start()} "
            f"{problem or 'is malformed or not supported'}; "
            f"the whole text is matched, and supported are {SUPPORTED}"
        )

    def state(self, label: frozenset[str] | None, *exits: int) -> int:
        _check_states(len(self.labels) + 1)
        self.labels.append(label)
        self.exits.append(list(exits))
        return len(self.labels) - 1

    def choice(self) -> _Fragment:
        branches = [self.sequence()]
        while self.take("or"):
            branches.append(self.sequence())
        # A single branch gets a state, too, so that MAX_STATES also bounds ((){64}){64}.
        return lambda then: self.state(None, *(branch(then) for branch in branches))

    def sequence(self) -> _Fragment:
        parts: list[_Fragment] = []
        while self.tokens[-1].lastgroup not in ("or", "close", "end"):
            parts.append(self.repeat())
        return lambda then: reduce(lambda state, part: part(state), reversed(parts), then)

    def repeat(self) -> _Fragment:
        part = self.atom()
        token = self.take("repeat")
        if not token:
            return part
        least, most = self.counts(token)

        def fragment(then: int) -> int:
            end = then = self.state(None, then)
            if most is None:
                self.exits[end].append(part(end))
            for _ in range(least, most or 0):
                then = self.state(None, part(then), end)
            for _ in range(least):
                then = part(then)
            return then

        return fragment

    def counts(self, token: re.Match[str]) -> tuple[int, int | None]:
        if token[0] in _COUNTS:
            return _COUNTS[token[0]]
        first, comma, last = token[0][1:-1].partition(",")
        least = int(first)
        most = int(last) if last else None if comma else least
        if not least <= (least if most is None else most) <= MAX_COUNT:
            raise self.error(token, f"must count up, to at most {MAX_COUNT}")
        return least, most

    def atom(self) -> _Fragment:
        token = self.tokens.pop()
        match token.lastgroup:
            case "open":
                return self.group(token)
            case "set":
                label = self.members(token)
            case "symbol" if token[0] == ".":
                label = frozenset(self.alphabet)
            case "symbol":
                label = self.span(token, token[0])
            case _:
                raise self.error(token)
        return lambda then: self.state(label, then)

    def group(self, token: re.Match[str]) -> _Fragment:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise self.error(token, f"is nested over {MAX_NESTING} deep")
        inner = self.choice()
        if not self.take("close"):
            raise self.error(token, "is not closed")
        self.nesting -= 1
        return inner

    def members(self, token: re.Match[str]) -> frozenset[str]:
        negated = token[0].startswith("[^")
        spans = _SPAN.findall(token[0][1 + negated : -1])
        members = frozenset[str]().union(*(self.span(token, *ends) for ends in spans))
        return frozenset(self.alphabet) - members if negated else members

    def span(self, token: re.Match[str], first: str, last: str = "") -> frozenset[str]:
        if first in _SHORTHANDS and not last:
            return frozenset(filter(_SHORTHANDS[first], self.alphabet))
        last = last or first
        if first[1:].isalnum() or last[1:].isalnum() or first[-1] > last[-1]:
            raise self.error(token)
        return frozenset(symbol for symbol in self.alphabet if first[-1] <= symbol <= last[-1])

    def closures(self) -> list[int]:
        """For each state, the bits of its epsilon closure: accepting or reading states only."""
        found = [1] + [0] * len(self.exits[1:])
        before: list[int] = []
        # Exits lead to earlier states, except in loops: each nested loop takes one more round.
        while found != before:
            before = found.copy()
            for state, label in enumerate(self.labels[1:], 1):
                silent = (found[then] for then in self.exits[state])
                found[state] = reduce(or_, silent) if label is None else 1 << state
        return found

    def determinized(self) -> Automaton:
        """The subset construction; the states of a subset are the bits of an integer."""
        readers: dict[frozenset[str], int] = {}
        for state, label in enumerate(self.labels):
            if label is not None:
                readers[label] = readers.get(label, 0) | 1 << state
        closures = self.closures()
        # A state that reads a symbol has one exit.
        following = [closures[exits[0]] if exits else 0 for exits in self.exits]
        # Symbols that no label distinguishes share a column.
        signatures = [tuple(r for r in readers if symbol in r) for symbol in self.alphabet]
        columns = {signature: i for i, signature in enumerate(dict.fromkeys(signatures))}

        work = 0

        def successors(subset: int) -> list[int]:
            nonlocal work
            work += subset.bit_count()
            if work > _MAX_WORK:
                raise ConstraintError(
                    f"pattern {self.pattern!r} allows too many matches at once; fewer optional "
                    "parts and repetitions make it simpler"
                )
            moved = {
                label: reduce(or_, (following[s] for s in _bits(subset & mask)), 0)
                for label, mask in readers.items()
            }
            return [reduce(or_, (moved[r] for r in column), 0) or _NO_STATE for column in columns]

        subsets, transitions = _explored(closures[self.start], successors)
        symbols = [columns[signature] for signature in signatures]
        accepting = np.array([subset % 2 == 1 for subset in subsets])
        return Automaton(np.take(transitions, symbols, axis=1), accepting)


def _bits(number: int) -> Iterator[int]:
    while number:
        yield number.bit_length() - 1
        number ^= 1 << number.bit_length() - 1
