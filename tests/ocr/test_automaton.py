import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ocr.decoding.automaton import MAX_STATES, of_length, of_symbols
from service.ocr.decoding.pattern import of_pattern
from service.ocr.exceptions import ConstraintError
from tests.ocr.languages import ALPHABET, TEXTS, language, matched, patterns


@given(patterns, patterns)
def test_an_intersection_accepts_what_both_accept(one: str, other: str) -> None:
    """A text is in the product when it is in both factors."""
    product = of_pattern(one, ALPHABET).intersect(of_pattern(other, ALPHABET))
    assert language(product) == matched(one) & matched(other)


@given(patterns, patterns)
def test_trimming_leaves_the_texts_and_no_dead_end(one: str, other: str) -> None:
    """Every transition that is left can be continued to an accepted text."""
    automaton = of_pattern(one, ALPHABET).intersect(of_pattern(other, ALPHABET))
    trimmed = automaton.trimmed()
    assert language(trimmed) == language(automaton)
    transitions, alive = trimmed.transitions, trimmed.accepting.copy()
    for _ in alive:
        alive |= (alive[transitions] & (transitions >= 0)).any(axis=1)
    assert alive[transitions[transitions >= 0]].all()
    assert alive[1:].all()
    assert trimmed.is_empty == automaton.is_empty == (not alive[0])


def test_columns_are_the_symbols_in_the_order_of_the_alphabet() -> None:
    """A decoder looks up the next state by the index of a symbol."""
    automaton = of_pattern("ab|b", "ba").trimmed()
    assert automaton.transitions.shape == (3, 2)
    assert automaton.transitions.dtype == np.int32
    after_b, after_a = automaton.transitions[0]
    assert list(automaton.transitions[after_a]) == [after_b, -1]
    assert list(automaton.transitions[after_b]) == [-1, -1]
    assert list(np.flatnonzero(automaton.accepting)) == [after_b]


def test_the_empty_text_is_a_text() -> None:
    """An automaton that accepts it alone is not empty."""
    assert not of_pattern("Z*", ALPHABET).is_empty
    assert not of_length(0, 0, ALPHABET).is_empty


def test_constraints_that_contradict_each_other_are_empty() -> None:
    """Each has texts, but none has both."""
    both = of_pattern("a{3,}", ALPHABET).intersect(of_length(0, 2, ALPHABET))
    assert both.is_empty


def test_every_symbol() -> None:
    """Every text over the alphabet, and none with another symbol."""
    anything = of_symbols(ALPHABET, ALPHABET)
    assert language(anything) == set(TEXTS)
    assert not anything.accepts("aZ", ALPHABET)


@given(st.integers(0, 5), st.integers(0, 5))
def test_of_length(one: int, other: int) -> None:
    """The texts between two lengths, both included."""
    shortest, longest = sorted((one, other))
    expected = {text for text in TEXTS if shortest <= len(text) <= longest}
    assert language(of_length(shortest, longest, ALPHABET)) == expected


@pytest.mark.parametrize(("shortest", "longest"), [(-1, 2), (3, 2), (0, MAX_STATES)])
def test_impossible_lengths(shortest: int, longest: int) -> None:
    """Lengths that no text has, or too many states, are refused with what is allowed."""
    with pytest.raises(ConstraintError, match=f"{shortest} to {longest} .* 0 ≤ shortest"):
        of_length(shortest, longest, ALPHABET)


@given(st.sets(st.sampled_from(ALPHABET)))
def test_of_symbols(symbols: set[str]) -> None:
    """The texts of the given symbols alone, the empty one among them."""
    automaton = of_symbols("".join(symbols), ALPHABET)
    assert language(automaton) == {text for text in TEXTS if set(text) <= symbols}


def test_foreign_symbols_are_named() -> None:
    """Symbols that the model cannot read are refused by name."""
    with pytest.raises(ConstraintError, match="'YZ', which the alphabet 'ab1' lacks"):
        of_symbols("aZYb", ALPHABET)


def test_a_product_is_bounded() -> None:
    """Two constraints that are large together are refused like one that is."""
    every_43rd, every_47th = of_pattern("(.{43})*", "a"), of_pattern("(.{47})*", "a")
    with pytest.raises(ConstraintError, match="over 2000 states"):
        every_43rd.intersect(every_47th)
