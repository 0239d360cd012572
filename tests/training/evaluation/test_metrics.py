import pytest

from training.evaluation.metrics import (
    character_error_rate,
    confusions,
    exact_matches,
    has_adjacent_repeat,
    wilson_interval,
)


def test_the_character_error_rate_counts_edits() -> None:
    """Substitutions, deletions and insertions count 1 each, over the characters of the labels."""
    assert character_error_rate([("abcd", "abcd")]) == 0
    assert character_error_rate([("abcd", "abXd"), ("ab", "a"), ("ab", "abc")]) == 3 / 8
    assert character_error_rate([("ab", "")]) == 1


def test_exact_matches() -> None:
    """Only equal texts count."""
    assert exact_matches([("ab", "ab"), ("ab", "a"), ("", "")]) == 2


def test_confusions_are_counted() -> None:
    """A missed or inserted character is paired with an empty text."""
    counts = confusions([("abcd", "aXcd"), ("abcd", "aXcd"), ("ab", "b"), ("ab", "abc")])
    assert counts == {("b", "X"): 2, ("a", ""): 1, ("", "c"): 1}


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # R: prop.test(x, n, correct = FALSE)$conf.int
        (104, 104, 0.9643767, 1.0),
        (103, 104, 0.9475, 0.9983),
        (5, 10, 0.2365931, 0.7634069),
        (0, 10, 0.0, 0.2775328),
    ],
)
def test_the_wilson_interval_agrees_with_r(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_without_trials_the_interval_is_0_to_1() -> None:
    """Any proportion is possible."""
    assert wilson_interval(0, 0) == (0, 1)


@pytest.mark.parametrize(("label", "repeats"), [("aab", True), ("aba", False), ("", False)])
def test_adjacent_repeats_are_found(label: str, repeats: bool) -> None:
    """Only equal neighbours count."""
    assert has_adjacent_repeat(label) is repeats
