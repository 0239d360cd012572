r"""Compiles patterns, a subset of regular expressions, to automata.

Without backtracking: recursive descent, an NFA (Thompson 1968, "Regular Expression Search
Algorithm"), the subset construction (Rabin & Scott 1959, "Finite Automata and Their Decision
Problems"). What is supported means the same as in `re.fullmatch`, with `.` any symbol of the
alphabet; everything else is refused.
"""

import re
from collections.abc import Callable, Iterator
from functools import reduce
from operator import or_

import numpy as np

from service.ocr.decoding.automaton import NOWHERE, Automaton, check_states, explored
from service.ocr.exceptions import ConstraintError

MAX_LENGTH, MAX_COUNT, MAX_NESTING = 200, 64, 20

_MOST_WORK = 100_000
"""States of the NFA in all states of the DFA together, each of which takes time."""
SUPPORTED = (
    r"literals, ., [A-Z], [^0-9], \d, \w, (...), (?:...), |, *, +, ?, {m}, {m,n}, {m,} "
    r"and \ before punctuation"
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


def of_pattern(pattern: str, alphabet: str) -> Automaton:
    """The texts that a regular expression matches as a whole.

    Args:
        pattern: of what `SUPPORTED` lists; a literal that the alphabet lacks matches nothing.
        alphabet: the model's symbols.

    Raises:
        ConstraintError: malformed or not supported, over `MAX_LENGTH` characters, a count over
            `MAX_COUNT`, groups over `MAX_NESTING` deep, or over `MAX_STATES` states of the NFA
            or the DFA. Positions count from 0.
    """
    if len(pattern) > MAX_LENGTH:
        raise ConstraintError(
            f"the pattern has {len(pattern)} characters; at most {MAX_LENGTH} are allowed"
        )
    return _Nfa(pattern, alphabet).determinized()


_Fragment = Callable[[int], int]
"""Writes a copy of a part of the pattern in front of a state, and gives the copy's entry."""


class _Nfa:
    """Thompson's NFA, written backwards from its one accepting state 0.

    A state reads a symbol of its label, or nothing where that is None, and leads to its exits.
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
        check_states(len(self.labels) + 1)
        self.labels.append(label)
        self.exits.append(list(exits))
        return len(self.labels) - 1

    def choice(self) -> _Fragment:
        branches = [self.sequence()]
        while self.take("or"):
            branches.append(self.sequence())
        # One branch gets a state, too: so the states bound the work, even that of ((){64}){64}.
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
        """Of every state the bits of those, accepting or reading, that it reaches silently."""
        found = [1] + [0] * len(self.exits[1:])
        before: list[int] = []
        # Exits lead to earlier states, but for those of loops: a round for each nested loop.
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
        # The exit of a state that reads is its only one.
        following = [closures[exits[0]] if exits else 0 for exits in self.exits]
        # Symbols that no label tells apart share a column.
        signatures = [tuple(r for r in readers if symbol in r) for symbol in self.alphabet]
        columns = {signature: i for i, signature in enumerate(dict.fromkeys(signatures))}

        work = 0

        def successors(subset: int) -> list[int]:
            nonlocal work
            work += subset.bit_count()
            if work > _MOST_WORK:
                raise ConstraintError(
                    f"pattern {self.pattern!r} leaves too much open at once; fewer optional parts "
                    "and repetitions make it simpler"
                )
            moved = {
                label: reduce(or_, (following[s] for s in _bits(subset & mask)), 0)
                for label, mask in readers.items()
            }
            return [reduce(or_, (moved[r] for r in column), 0) or NOWHERE for column in columns]

        subsets, transitions = explored(closures[self.start], successors)
        symbols = [columns[signature] for signature in signatures]
        accepting = np.array([subset % 2 == 1 for subset in subsets])
        return Automaton(np.take(transitions, symbols, axis=1), accepting)


def _bits(number: int) -> Iterator[int]:
    while number:
        yield number.bit_length() - 1
        number ^= 1 << number.bit_length() - 1
