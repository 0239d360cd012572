import re
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ocr.decoding.constraints import MAX_STATES, of_length, of_pattern, of_symbols
from service.ocr.exceptions import ConstraintError
from tests.ocr.languages import ALPHABET, TEXTS, language, matched, patterns

CAPTCHAS = string.digits + string.ascii_letters


@given(patterns, patterns)
def test_an_intersection_accepts_the_texts_that_both_automata_accept(one: str, other: str) -> None:
    product = of_pattern(one, ALPHABET).intersect(of_pattern(other, ALPHABET))
    assert language(product) == matched(one) & matched(other)


def test_a_larger_alphabet_allows_fewer_states() -> None:
    """For each time step, decoding takes time and memory in proportion to states × symbols."""
    small, large = string.digits, "".join(map(chr, range(0x4E00, 0x4E00 + 100)))
    assert len(of_length(1, 999, small).trimmed().accepting) == 1000
    assert len(of_length(1, 99, large).trimmed().accepting) == 100
    with pytest.raises(ConstraintError, match="over 100 states"):
        of_length(1, 100, large).trimmed()


@given(patterns, patterns)
def test_trimming_keeps_the_texts_and_removes_dead_ends(one: str, other: str) -> None:
    """Every remaining transition can be continued to an accepted text."""
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


def test_the_empty_text_counts_as_a_text() -> None:
    """An automaton that accepts only the empty text is not empty."""
    assert not of_pattern("Z*", ALPHABET).is_empty
    assert not of_length(0, 0, ALPHABET).is_empty


def test_the_intersection_of_contradictory_constraints_is_empty() -> None:
    """Each constraint accepts texts, but no text satisfies both."""
    both = of_pattern("a{3,}", ALPHABET).intersect(of_length(0, 2, ALPHABET))
    assert both.is_empty


def test_a_constraint_to_all_symbols_accepts_every_text() -> None:
    """A text with another symbol is refused."""
    anything = of_symbols(ALPHABET, ALPHABET)
    assert language(anything) == set(TEXTS)
    assert not anything.accepts("aZ", ALPHABET)


@given(st.integers(0, 5), st.integers(0, 5))
def test_of_length_accepts_the_texts_between_two_lengths(one: int, other: int) -> None:
    """Both lengths are included."""
    shortest, longest = sorted((one, other))
    expected = {text for text in TEXTS if shortest <= len(text) <= longest}
    assert language(of_length(shortest, longest, ALPHABET)) == expected


@pytest.mark.parametrize(("shortest", "longest"), [(-1, 2), (3, 2), (0, MAX_STATES)])
def test_impossible_lengths_are_refused(shortest: int, longest: int) -> None:
    """No text has such a length, or there are too many states. The error says what is allowed."""
    with pytest.raises(ConstraintError, match=f"{shortest} to {longest} .* 0 ≤ shortest"):
        of_length(shortest, longest, ALPHABET)


@given(st.sets(st.sampled_from(ALPHABET)))
def test_of_symbols_accepts_the_texts_of_the_given_symbols(symbols: set[str]) -> None:
    """The empty text is one of them."""
    automaton = of_symbols("".join(symbols), ALPHABET)
    assert language(automaton) == {text for text in TEXTS if set(text) <= symbols}


def test_symbols_outside_the_alphabet_are_refused() -> None:
    """The error names them."""
    with pytest.raises(ConstraintError, match="'YZ', which the alphabet 'ab1' lacks"):
        of_symbols("aZYb", ALPHABET)


def test_an_intersection_with_too_many_states_is_refused() -> None:
    """Each of the two constraints alone is within the limit."""
    every_43rd, every_47th = of_pattern("(.{43})*", "a"), of_pattern("(.{47})*", "a")
    with pytest.raises(ConstraintError, match="over 2000 states"):
        every_43rd.intersect(every_47th)


@given(patterns)
def test_a_pattern_has_the_meaning_that_it_has_in_re(pattern: str) -> None:
    """It accepts exactly the texts that `re.fullmatch` matches."""
    assert language(of_pattern(pattern, ALPHABET)) == matched(pattern)


@given(st.text(string.printable, max_size=40))
def test_an_escaped_text_matches_only_itself(text: str) -> None:
    """Everything that `re.escape` escapes is a literal, inside and outside a class."""
    automaton = of_pattern(re.escape(text), string.printable)
    assert automaton.accepts(text, string.printable)
    assert not automaton.accepts(text + " ", string.printable)
    classes = "".join(f"[{re.escape(symbol)}]" for symbol in text[:20])
    assert of_pattern(classes, string.printable).accepts(text[:20], string.printable)


@pytest.mark.parametrize(
    ("pattern", "accepted", "refused"),
    [
        ("", [""], ["a"]),
        ("a|b", ["a", "b"], ["", "ab"]),
        ("a|", ["a", ""], ["b"]),
        ("[A-C]{2}[0-9]{3,4}", ["AB123", "CC0000"], ["AB12", "AD123", "AB12345", "ab123"]),
        ("[a^]", ["a"], ["b"]),
        ("[^ab]", ["c", "9"], ["a", "b", ""]),
        ("[a-]", ["a"], ["b"]),
        ("a{64}", ["a" * 64], ["a" * 63, "a" * 65]),
        ("(?:a|bc)+", ["abc", "bcbca"], ["b", "acb"]),
        ("Å|a", ["a"], ["Å"]),
    ],
)
def test_example_patterns_accept_the_expected_texts(
    pattern: str, accepted: list[str], refused: list[str]
) -> None:
    automaton = of_pattern(pattern, CAPTCHAS)
    assert [text for text in accepted if not automaton.accepts(text, CAPTCHAS)] == []
    assert [text for text in refused if automaton.accepts(text, CAPTCHAS)] == []


def test_shorthands_match_more_than_ascii() -> None:
    r"""`\d` and `\w` are the digits and letters of any script, as in `re`."""
    alphabet = "é٣-_"
    for pattern in (r"\d", r"\w", r"[^\w]", r"[^\d_]"):
        automaton = of_pattern(pattern, alphabet)
        for symbol in alphabet:
            assert automaton.accepts(symbol, alphabet) == bool(re.fullmatch(pattern, symbol))


def test_the_dot_matches_any_symbol_of_the_alphabet() -> None:
    """This includes a line feed: the alphabet alone says what a symbol is."""
    assert of_pattern("a.", "a\n").accepts("a\n", "a\n")
    assert not of_pattern(".", "ab").accepts("c", "ab")


@pytest.mark.parametrize(
    ("pattern", "named", "position"),
    [
        ("^a", "'^'", 0),
        ("a$", "'$'", 1),
        (r"(a)\1", r"'\\1'", 3),
        (r"a\b", r"'\\b'", 1),
        (r"\s", r"'\\s'", 0),
        (r"\D", r"'\\D'", 0),
        ("(?=a)", "'(?='", 0),
        ("a(?!a)", "'(?!'", 1),
        ("(?<=a)", "'(?<='", 0),
        ("(?P<name>a)", "'(?P'", 0),
        ("(?i)a", "'(?i'", 0),
        ("(?#a)", "'(?#'", 0),
        ("(?>a)", "'(?>'", 0),
        ("a*?", "'?'", 2),
        ("a++", "'+'", 2),
        ("a{2}{3}", "'{3}'", 4),
        ("*a", "'*'", 0),
        ("(|+)", "'+'", 2),
        ("a{,3}", "'{'", 1),
        ("a{x}", "'{'", 1),
        ("a}", "'}'", 1),
        ("a]", "']'", 1),
        ("a)", "')'", 1),
        ("b(a", "'('", 1),
        ("[a", "'['", 0),
        ("[]", "'['", 0),
        ("[^]", "'['", 0),
        ("[[:alpha:]]", "'['", 0),
        ("[z-a]", "'[z-a]'", 0),
        (r"[a-\d]", r"'[a-\\d]'", 0),
        (r"[\d-\d]", r"'[\\d-\\d]'", 0),
        (r"[\s]", r"'[\\s]'", 0),
        ("a\\", r"'\\'", 1),
    ],
)
def test_unsupported_syntax_is_refused(pattern: str, named: str, position: int) -> None:
    """The error says what is wrong, where it is, and what may be used instead."""
    with pytest.raises(ConstraintError) as caught:
        of_pattern(pattern, ALPHABET)
    message = str(caught.value)
    assert f"{named} at position {position} " in message
    assert "[^0-9]" in message
    assert "{m,n}" in message


@pytest.mark.parametrize(
    ("pattern", "limit"),
    [
        ("a" * 201, "201 characters; at most 200"),
        ("a{65}", "'{65}' at position 1 must count up, to at most 64"),
        ("a{2,65}", "at most 64"),
        ("a{65,}", "at most 64"),
        ("a{3,2}", "must count up"),
        ("a{" + "9" * 190 + "}", "at most 64"),
        ("(" * 21 + ")" * 21, "'(' at position 20 is nested over 20 deep"),
        ("(" * 200, "nested over 20 deep"),
        ("((a{64}){64}){64}", "over 2000 states"),
        ("((((){64}){64}){64}){64}", "over 2000 states"),
        ("((((a{0}){64}){64}){64}){64}", "over 2000 states"),
        ("(" * 20 + "a" + "){0,64}" * 20, "over 2000 states"),
        (".*a.{63}", "over 2000 states"),
        (".*[b-m].{8}(([b-m]?[n-y]?){27}){10}", "allows too many matches at once"),
    ],
)
def test_a_pattern_that_takes_too_much_work_is_refused(pattern: str, limit: str) -> None:
    """The error names the exceeded limit."""
    with pytest.raises(ConstraintError, match=re.escape(limit)):
        of_pattern(pattern, CAPTCHAS)


@pytest.mark.parametrize(
    ("pattern", "accepted", "refused"),
    [
        ("(a*)*b", "a" * 500 + "b", "a" * 500),
        ("(a|a)*", "a" * 500, "a" * 500 + "b"),
        ("((a|b)*c?)*d", "ab" * 250 + "d", "ab" * 250),
        ("(a?){64}a{64}", "a" * 128, "a" * 129),
        ("((.?){40}){10}", "a" * 400, "a" * 401),
        ("(" * 20 + "a" + ")*" * 20, "a" * 500, "b"),
        ("|" * 200, "", "a"),
    ],
)
def test_matching_does_not_backtrack(pattern: str, accepted: str, refused: str) -> None:
    """These patterns and texts keep a backtracking engine busy for ever."""
    automaton = of_pattern(pattern, CAPTCHAS)
    assert automaton.accepts(accepted, CAPTCHAS)
    assert not automaton.accepts(refused, CAPTCHAS)


@pytest.mark.parametrize("pattern", ["Z", "aZ", "(Z|cc)+", "[^ab1]", "a[x-z]"])
def test_a_pattern_of_symbols_outside_the_alphabet_is_empty(pattern: str) -> None:
    """A literal that the alphabet lacks is no error. `is_empty` says that no text is left."""
    automaton = of_pattern(pattern, ALPHABET)
    assert automaton.is_empty
    assert language(automaton) == set()
    trimmed = automaton.trimmed()
    assert trimmed.transitions.tolist() == [[-1, -1, -1]]
    assert not trimmed.accepting.any()
