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
    """The probability of every label: all paths, repeats collapsed, then blanks dropped."""
    steps, classes = probabilities.shape
    totals: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(classes), repeat=steps):
        label = tuple(c for c, _ in itertools.groupby(path) if c != blank)
        mass = math.prod(float(probabilities[t, c]) for t, c in enumerate(path))
        totals[label] = totals.get(label, 0.0) + mass
    return totals


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(2, 4), st.data())
def test_agrees_with_brute_force(steps: int, classes: int, data: st.DataObject) -> None:
    """Every label's probability is the sum over all paths that spell it; together they are 1."""
    blank = data.draw(st.integers(0, classes - 1))
    probabilities = distribution(steps, classes, data.draw(st.integers(0, 1000)), sharpness=3)
    expected = by_brute_force(probabilities, blank)
    found = {label: np.exp(log_likelihood(probabilities, label, blank)) for label in expected}
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)


def test_labels_that_do_not_fit() -> None:
    """A label that needs more time steps than there are is impossible."""
    rows = distribution(3, 3, seed=0)
    assert np.isfinite(log_likelihood(rows, (0, 1, 0), blank_index=2))
    assert log_likelihood(rows, (0, 0, 1), blank_index=2) == -np.inf
    long = distribution(40, 3, seed=0)
    assert log_likelihood(long, (0, 0) * 20, blank_index=2) == -np.inf


def test_improbable_texts_keep_their_logarithm() -> None:
    """A text of which every time step is improbable still has its probability."""
    rows = np.array([[1e-6, 1e-6, 1 - 2e-6]] * 50)
    found = log_likelihood(rows, (0, 1) * 25, blank_index=2)
    assert found == pytest.approx(50 * np.log(1e-6), rel=1e-6)


def test_texts_beside_far_more_probable_ones() -> None:
    """What would be lost beside the blank path is computed in logarithms."""
    rows = np.array([[1e-9, 1e-9, 1 - 2e-9]] * 60)
    found = log_likelihood(rows, (0, 1) * 30, blank_index=2)
    assert found == pytest.approx(60 * np.log(1e-9), rel=1e-6)
    repeated = log_likelihood(rows, (0, 0) * 15, blank_index=2)
    assert np.isfinite(repeated)


def test_more_alignments_than_a_number_can_count() -> None:
    """Of long texts in flat distributions; the sums of array operations are scaled apart."""
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
def test_several_labels_are_as_each_alone(seed: int, blank: int, labels: list[list[int]]) -> None:
    """Together or alone, whatever their lengths and wherever the blank is."""
    symbols = [[c + (c >= blank) for c in label] for label in labels]
    probabilities = distribution(40, 5, seed, sharpness=5).astype(float)
    together = log_likelihoods(probabilities, symbols, blank)
    alone = [log_likelihood(probabilities, label, blank) for label in symbols]
    assert together == pytest.approx(alone, rel=1e-9)
