import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.ocr.decoding.likelihood import log_likelihood, log_likelihoods


def distribution(steps: int, classes: int, seed: int, sharpness: float = 1.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, sharpness, (steps, classes))
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)


def by_brute_force(probabilities: np.ndarray, blank: int) -> dict[tuple[int, ...], float]:
    """The probability of every label, from all paths: repeats collapse, then blanks drop."""
    steps, classes = probabilities.shape
    totals: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(classes), repeat=steps):
        label = tuple(c for c, _ in itertools.groupby(path) if c != blank)
        mass = math.prod(float(probabilities[t, c]) for t, c in enumerate(path))
        totals[label] = totals.get(label, 0.0) + mass
    return totals


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(2, 4), st.data())
def test_the_likelihood_agrees_with_brute_force(
    steps: int, classes: int, data: st.DataObject
) -> None:
    """A label's probability is the sum over all paths that spell it. All probabilities sum to 1."""
    blank = data.draw(st.integers(0, classes - 1))
    probabilities = distribution(steps, classes, data.draw(st.integers(0, 1000)), sharpness=3)
    expected = by_brute_force(probabilities, blank)
    found = {label: np.exp(log_likelihood(probabilities, label, blank)) for label in expected}
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)


def test_a_label_that_needs_too_many_time_steps_is_impossible() -> None:
    rows = distribution(3, 3, seed=0)
    assert np.isfinite(log_likelihood(rows, (0, 1, 0), blank_index=2))
    assert log_likelihood(rows, (0, 0, 1), blank_index=2) == -np.inf
    long = distribution(40, 3, seed=0)
    assert log_likelihood(long, (0, 0) * 20, blank_index=2) == -np.inf


def test_a_text_improbable_in_every_time_step_has_a_finite_likelihood() -> None:
    rows = np.array([[1e-6, 1e-6, 1 - 2e-6]] * 50)
    found = log_likelihood(rows, (0, 1) * 25, blank_index=2)
    assert found == pytest.approx(50 * np.log(1e-6), rel=1e-6)


def test_a_text_far_less_probable_than_the_blank_path_has_a_likelihood() -> None:
    """Its probability would be lost beside that of the blank path, so logarithms are used."""
    rows = np.array([[1e-9, 1e-9, 1 - 2e-9]] * 60)
    found = log_likelihood(rows, (0, 1) * 30, blank_index=2)
    assert found == pytest.approx(60 * np.log(1e-9), rel=1e-6)
    repeated = log_likelihood(rows, (0, 0) * 15, blank_index=2)
    assert np.isfinite(repeated)


def test_the_number_of_alignments_may_exceed_the_range_of_a_float() -> None:
    """Long texts in flat distributions have so many. Sums over arrays are scaled separately."""
    rows, text = np.full((1500, 3), 1 / 3), (0, 1) * 250
    alone, together = log_likelihood(rows, text, 2), log_likelihoods(rows, [text], 2)[0]
    assert alone == pytest.approx(together, rel=1e-9)
    assert alone - len(rows) * np.log(1 / 3) > np.log(np.finfo(float).max)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(0, 4),
    st.lists(st.lists(st.integers(0, 3), max_size=20), max_size=6),
)
def test_several_labels_have_the_likelihoods_that_each_has_alone(
    seed: int, blank: int, labels: list[list[int]]
) -> None:
    """This holds for labels of any lengths, and for any index of the blank."""
    symbols = [[c + (c >= blank) for c in label] for label in labels]
    probabilities = distribution(40, 5, seed, sharpness=5).astype(float)
    together = log_likelihoods(probabilities, symbols, blank)
    alone = [log_likelihood(probabilities, label, blank) for label in symbols]
    assert together == pytest.approx(alone, rel=1e-9)
