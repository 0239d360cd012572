import itertools
import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.ocr.decoding.beam_search import most_probable
from service.ocr.decoding.constraints import Automaton, of_length, of_pattern, of_symbols
from service.ocr.decoding.likelihood import log_likelihoods
from tests.ocr.test_likelihood import by_brute_force, distribution

ALPHABET = "ab1"
SYMBOLS = "abcdefghijklmnopqrs"


def spelled(label: tuple[int, ...], blank: int) -> str:
    return "".join(ALPHABET[c - (c > blank)] for c in label)


def best_by_brute_force(
    probabilities: np.ndarray, blank: int, pattern: str
) -> list[tuple[tuple[int, ...], float]]:
    totals = by_brute_force(probabilities, blank)
    fitting = [(k, v) for k, v in totals.items() if re.fullmatch(pattern, spelled(k, blank))]
    return sorted(fitting, key=lambda item: item[1], reverse=True)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 3), st.sampled_from([1.0, 3.0, 6.0]))
def test_the_most_probable_texts_are_found(seed: int, blank: int, sharpness: float) -> None:
    """The three most probable of all texts are found, in order, with their probabilities."""
    probabilities = distribution(5, 4, seed, sharpness)
    expected = best_by_brute_force(probabilities, blank, ".*")[:3]
    found = most_probable(probabilities, blank, 3)
    assert [np.exp(score) for _, score in found] == pytest.approx(
        [value for _, value in expected], rel=1e-4
    )


PATTERNS = ["[ab]{2}1", "a+", "1.*", "(ab)*", "...", "b?1?", "a1b", "[^1]*"]


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(0, 3),
    st.sampled_from([1.0, 4.0, 10.0]),
    st.sampled_from(PATTERNS),
)
def test_the_most_probable_text_that_satisfies_a_constraint_is_found(
    seed: int, blank: int, sharpness: float, pattern: str
) -> None:
    """It is found even if the unconstrained text is very different."""
    probabilities = distribution(5, 4, seed, sharpness)
    _, value = best_by_brute_force(probabilities, blank, pattern)[0]
    ((found, score),) = most_probable(probabilities, blank, 1, of_pattern(pattern, ALPHABET))
    assert np.exp(score) == pytest.approx(value, rel=1e-4)
    assert re.fullmatch(pattern, spelled(found, blank))


def sure(path: str) -> np.ndarray:
    """Ten million to one for the symbol of each step. `_` is the blank, which is the last class."""
    rows = np.full((len(path), 4), 1e-7 / 3, np.float32)
    rows[np.arange(len(path)), ["ab1_".index(symbol) for symbol in path]] = 1 - 1e-7
    return rows


@pytest.mark.parametrize("length", [0, 1, 3, 7])
def test_a_length_constraint_overrides_a_sure_reading(length: int) -> None:
    """The text that is found is about as probable as the most probable text of this length."""
    rows = sure("__a__b__1__a_____")
    every = list(itertools.product(range(len(ALPHABET)), repeat=length))
    best = max(log_likelihoods(rows.astype(np.float64), every, 3))
    ((label, score),) = most_probable(rows, 3, 1, of_length(length, length, ALPHABET))
    assert len(label) == length
    assert score == pytest.approx(best, rel=0.01)


def test_a_text_that_needs_every_time_step_is_found() -> None:
    """It is the only text that satisfies the constraint, and very improbable."""
    rows = np.full((50, 4), 1e-9, np.float32)
    rows[:, 3] = 1
    ((label, score),) = most_probable(rows, 3, 1, of_pattern("(ab){25}", ALPHABET))
    assert spelled(label, 3) == "ab" * 25
    assert score == pytest.approx(50 * np.log(1e-9), rel=1e-4)


def test_nothing_is_found_if_no_text_satisfies_the_constraint() -> None:
    """A text that needs too many time steps is not replaced by a wrong one."""
    assert most_probable(sure("_a_b"), 3, 3, of_length(5, 9, ALPHABET)) == []
    nothing = Automaton(np.full((1, 3), -1, np.int32), np.array([False]))
    assert most_probable(sure("_a_b"), 3, 3, nothing) == []


def test_a_constraint_that_every_text_satisfies_changes_nothing() -> None:
    probabilities = distribution(12, 4, seed=3, sharpness=3)
    free = most_probable(probabilities, 3, 5)
    within = most_probable(probabilities, 3, 5, of_symbols(ALPHABET, ALPHABET))
    assert [label for label, _ in free] == [label for label, _ in within]


@pytest.mark.parametrize("constraint", [None, of_length(3, 5, ALPHABET)], ids=["free", "length"])
@pytest.mark.parametrize("count", [1, 4, 11])
def test_as_many_texts_are_found_as_requested(count: int, constraint: Automaton | None) -> None:
    """This holds even for a very sure picture, however improbable the other texts are."""
    found = most_probable(sure("__a__b__1__a_____"), 3, count, constraint)
    assert len({label for label, _ in found}) == count
    assert spelled(found[0][0], 3) == "ab1a"


def test_the_second_text_differs_where_the_picture_is_least_sure() -> None:
    rows = sure("__a__b__1_")
    rows[5] = [1e-6, 1 - 1e-5, 1e-7, 9e-6]
    found = [spelled(label, 3) for label, _ in most_probable(rows, 3, 3)]
    assert found == ["ab1", "a1", "aa1"]


def test_texts_are_distinct_and_sorted_by_probability() -> None:
    found = most_probable(distribution(50, 4, seed=1, sharpness=4), 3, 10)
    assert len({label for label, _ in found}) == 10
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    "constraint", [None, of_length(9, 49, SYMBOLS), of_length(49, 49, SYMBOLS)]
)
def test_equally_probable_texts_take_little_search(
    constraint: Automaton | None,
) -> None:
    """The search of such a picture takes few calls of functions, and still finds texts."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        found = most_probable(np.full((50, 20), 0.05), 19, 11, constraint)
    finally:
        sys.setprofile(before)
    assert len(found) == 11
    assert calls < 40_000
