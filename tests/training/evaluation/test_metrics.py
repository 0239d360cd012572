import pytest

from training.evaluation.metrics import (
    character_error_rate,
    confusions,
    exact_matches,
    has_adjacent_repeat,
    wilson_interval,
)


def test_character_error_rate() -> None:
    """Substitution, deletion and insertion each count one, over the labels' characters."""
    assert character_error_rate([("abcd", "abcd")]) == 0
    assert character_error_rate([("abcd", "abXd"), ("ab", "a"), ("ab", "abc")]) == 3 / 8
    assert character_error_rate([("ab", "")]) == 1


def test_exact_matches() -> None:
    """Only equal texts count."""
    assert exact_matches([("ab", "ab"), ("ab", "a"), ("", "")]) == 2


def test_confusions() -> None:
    """Which character was read as which; a missed or an invented one has no counterpart."""
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
def test_wilson_interval(successes: int, trials: int, low: float, high: float) -> None:
    """The interval agrees with the textbook's."""
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_no_trials_tell_nothing() -> None:
    """Without a trial any proportion is possible."""
    assert wilson_interval(0, 0) == (0, 1)


@pytest.mark.parametrize(("label", "repeats"), [("aab", True), ("aba", False), ("", False)])
def test_adjacent_repeats(label: str, repeats: bool) -> None:
    """Only neighbours count."""
    assert has_adjacent_repeat(label) is repeats
