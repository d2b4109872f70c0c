"""Truncated greedy Birkhoff–von Neumann decompositions."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import linear_sum_assignment

from mcjax.transport import birkhoff, nearest_permutation, sample_permutations


def mixture(seed: int, n: int, k: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(k))
    return sum(w * np.eye(n)[rng.permutation(n)] for w in weights)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_terms_add_up(seed, n, k):
    d = mixture(seed, n, k)
    alpha, permutations = birkhoff(d, terms=n * n + 1)
    assert (alpha > 0).all()
    rebuilt = sum(a * np.eye(n)[p] for a, p in zip(alpha, permutations, strict=True))
    np.testing.assert_allclose(rebuilt, d, atol=1e-5 * n)


@given(st.integers(0, 10_000), st.integers(2, 8))
@settings(max_examples=40, deadline=None)
def test_the_first_term_is_the_nearest_permutation_with_the_largest_weight(seed, n):
    d = mixture(seed, n, 3)
    alpha, permutations = birkhoff(d, terms=1)
    rows, columns = linear_sum_assignment(d, maximize=True)
    first = permutations[0]
    assert d[rows, first].sum() == pytest.approx(d[rows, columns].sum())
    assert alpha[0] == pytest.approx(d[rows, first].min())


def test_no_more_terms_than_asked_for(monkeypatch):
    """The paper truncates after ten; the assignments are counted."""
    calls = []

    def counting(*args, **kwargs):
        calls.append(1)
        return linear_sum_assignment(*args, **kwargs)

    monkeypatch.setattr("scipy.optimize.linear_sum_assignment", counting)
    d = np.full((30, 30), 1 / 30)
    alpha, _ = birkhoff(d, terms=10)
    assert len(alpha) == 10
    assert len(calls) <= 11


def test_samples_are_on_the_support():
    d = {"g": mixture(3, 6, 3), "h": np.stack([np.eye(3), mixture(4, 3, 2)])}
    for drawn in sample_permutations(d, 20, np.random.default_rng(0)):
        assert (d["g"][np.arange(6), drawn["g"]] > 0).all()
        assert drawn["h"].shape == (2, 3)
        np.testing.assert_array_equal(drawn["h"][0], [0, 1, 2])


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((2, 3)), r"square, \(…, n, n\), got shape \(2, 3\)"),
        (np.zeros((0, 0)), "square"),
        ([[1.5, -0.5], [-0.5, 1.5]], r"least entry is -0\.5"),
        ([[1.0, 0.0], [1.0, 0.0]], "not doubly stochastic: column 0 sums to 2, expected 1"),
        ([[1.0, 0.5], [0.0, 0.5]], "not doubly stochastic: row 0 sums to 1.5, expected 1"),
        (
            [[1.0, 0.0], [0.0, np.nan]],
            r"1 NaN or infinite values of 4; the first is nan at \(1, 1\)",
        ),
    ],
)
@pytest.mark.parametrize("take", [birkhoff, nearest_permutation])
def test_what_is_not_doubly_stochastic(take, matrix, message):
    with pytest.raises(ValueError, match=message):
        take(np.array(matrix))


def test_the_group_is_named():
    with pytest.raises(ValueError, match=r"matrices\['heads'\] is not doubly stochastic: row 0, 1"):
        sample_permutations(
            {"heads": np.array([[[1.0, 0.0], [0.0, 0.0]]])}, 1, np.random.default_rng(0)
        )
