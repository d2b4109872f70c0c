"""Doubly stochastic matrices as arrays: projections, entropic ones, the nearest permutation."""

from __future__ import annotations

import itertools

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from mcjax.transport import nearest_permutation, project, sinkhorn
from mcjax.transport.relaxation import projected

matrices = hnp.arrays(
    np.float32, st.integers(1, 6).map(lambda n: (n, n)), elements=st.floats(-2, 2, width=32)
)


@given(matrices)
@settings(max_examples=40, deadline=None)
def test_projection_is_doubly_stochastic_and_near(matrix):
    found = np.asarray(project(jnp.asarray(matrix), iterations=3000))
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(0), 1, atol=0.02)
    np.testing.assert_allclose(found.sum(1), 1, atol=0.02)
    n = len(matrix)
    distance = np.linalg.norm(found - matrix)
    # No worse than twice the way to any permutation (alternating projections are not exact).
    for p in itertools.islice(itertools.permutations(range(n)), 24):
        assert distance <= 2 * np.linalg.norm(np.eye(n)[list(p)] - matrix) + 0.1


def test_projection_leaves_doubly_stochastic_matrices():
    d = (np.eye(4) + np.eye(4)[[1, 2, 3, 0]] * 3) / 4
    np.testing.assert_allclose(project(jnp.asarray(d)), d, atol=1e-6)


@given(matrices)
@settings(max_examples=30, deadline=None)
def test_nearest_permutation_by_brute_force(matrix):
    n = len(matrix)
    if n > 5:
        return
    matrix = projected(matrix, "matrix")
    best = max(matrix[range(n), list(p)].sum() for p in itertools.permutations(range(n)))
    assert matrix[range(n), nearest_permutation(matrix)].sum() == pytest.approx(best, abs=1e-5)


def test_sinkhorn_is_the_entropic_optimum():
    """Its logarithm is M/τ up to terms of a row and of a column; and it has gradients."""
    m = jnp.asarray(np.random.default_rng(0).normal(size=(5, 5)), jnp.float32)
    d = np.asarray(sinkhorn(m, 0.5), np.float64)
    np.testing.assert_allclose(d.sum(0), 1, atol=1e-2)
    np.testing.assert_allclose(d.sum(1), 1, atol=1e-2)
    rest = np.log(d) - np.asarray(m) / 0.5
    crossed = rest - rest[:1] - rest[:, :1] + rest[0, 0]
    np.testing.assert_allclose(crossed, 0, atol=1e-2)
    direction = jnp.asarray(np.random.default_rng(1).normal(size=(5, 5)), jnp.float32)
    target = jnp.asarray(np.random.default_rng(2).normal(size=(5, 5)), jnp.float32)
    value = lambda s: jnp.sum(sinkhorn(m + s * direction, 0.5) * target)
    slope = (value(0.05) - value(-0.05)) / 0.1
    assert float(jax.grad(value)(0.0)) == pytest.approx(float(slope), rel=0.05, abs=1e-2)


@pytest.mark.parametrize("size", [1.0, 100.0, 1e6, 1e30])
@pytest.mark.parametrize("n", [2, 7, 24])
def test_projections_of_entries_of_any_size(n, size):
    """Doubly stochastic from however far, in JAX and on the host; a clear winner stays first."""
    rng = np.random.default_rng(n)
    matrix = (size * rng.normal(size=(2, n, n))).astype(np.float32)
    p = rng.permutation(n)
    matrix[1] = size * np.eye(n)[p]
    for found in (np.asarray(project(matrix), np.float64), projected(matrix, "matrix")):
        assert found.min() >= 0
        for axis in (-1, -2):
            np.testing.assert_allclose(found.sum(axis), 1, atol=0.006)
        np.testing.assert_array_equal(found[1].argmax(-1), p)


def test_what_is_not_doubly_stochastic_is_said():
    far = jnp.asarray(np.random.default_rng(0).normal(size=(30, 30)), jnp.float32)
    with pytest.warns(UserWarning, match=r"project: not doubly .* sums to 1 ± .*; give it more it"):
        project(far, iterations=20)
    with pytest.warns(UserWarning, match=r"sinkhorn: not doubly stochastic.*greater temperature"):
        sinkhorn(1e30 * far)
    with pytest.warns(UserWarning, match="sinkhorn: .* 1 ± nan"):
        sinkhorn(far.at[0, 0].set(jnp.nan))
