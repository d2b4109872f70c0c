"""Orthogonal and invertible matrices: laws, and NumPy and SciPy in float64 as oracles."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from mcjax import symmetry

SIZES = st.sampled_from((1, 2, 3, 5, 8))  # each compiles anew


def orthogonal(rng, n):
    q, r = np.linalg.qr(rng.normal(size=(n, n)))
    return q * np.sign(np.diag(r))


def special(rng, n):
    """Of determinant 1."""
    q = orthogonal(rng, n)
    q[0] *= np.sign(np.linalg.det(q))
    return q


@pytest.mark.parametrize("fixing", [False, True])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_random_orthogonal(n, fixing):
    g = np.asarray(symmetry.random_orthogonal(jax.random.key(n), (3, n), fixing_ones=fixing))
    assert g.shape == (3, n, n)
    np.testing.assert_allclose(g @ g.swapaxes(-1, -2), np.tile(np.eye(n), (3, 1, 1)), atol=1e-5)
    if fixing:
        np.testing.assert_allclose(g.sum(-1), 1, atol=1e-5)


def test_haar_moments():
    """E[tr g] = 0 and E[(tr g)²] = 1 over O(n), n ≥ 2; without QR's signs the first is not."""
    g = symmetry.random_orthogonal(jax.random.key(0), (20000, 3))
    trace = np.trace(np.asarray(g, float), axis1=-2, axis2=-1)
    assert abs(trace.mean()) < 4 / np.sqrt(len(trace))
    assert abs((trace**2).mean() - 1) < 0.06
    assert abs(np.linalg.det(g).mean()) < 4 / np.sqrt(len(trace))


def test_random_general_linear_is_conditioned():
    g = symmetry.random_general_linear(jax.random.key(1), (500, 6))
    condition = np.linalg.cond(np.asarray(g, float))
    assert condition.max() <= 10.001
    assert condition.max() > 5


@settings(max_examples=30, deadline=None)
@given(n=SIZES, seed=st.integers(0, 10**6))
def test_nearest_orthogonal_is_scipys(n, seed):
    matrix = np.random.default_rng(seed).normal(size=(n, n))
    expected, _ = scipy.linalg.orthogonal_procrustes(np.eye(n), matrix)
    np.testing.assert_allclose(symmetry.nearest_orthogonal(matrix), expected, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(n=SIZES, m=SIZES, seed=st.integers(0, 10**6))
def test_nearest_semi_orthogonal_is_the_best_of_many(n, m, seed):
    """Between different widths: no other one is nearer, and one of them is itself."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, m))
    found = symmetry.nearest_orthogonal(matrix)
    least = min(n, m)
    assert np.linalg.matrix_rank(found) == least
    gram = found.T @ found if m <= n else found @ found.T
    np.testing.assert_allclose(gram, np.eye(least), atol=1e-9)
    np.testing.assert_allclose(symmetry.nearest_orthogonal(found), found, atol=1e-9)
    np.testing.assert_allclose(symmetry.nearest_orthogonal(jnp.asarray(matrix)), found, atol=1e-3)
    for other in rng.normal(size=(10, max(n, m), max(n, m))):
        q = np.linalg.qr(other)[0][:n, :m]
        assert np.vdot(q, matrix) <= np.vdot(found, matrix) + 1e-9


@settings(max_examples=30, deadline=None)
@given(n=st.sampled_from((2, 3, 6)), seed=st.integers(0, 10**6))
def test_nearest_that_fixes_ones(n, seed):
    """No element drawn from the group is nearer, and a member of the group is itself."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, n))
    found = symmetry.nearest_orthogonal(matrix, fixing_ones=True)
    np.testing.assert_allclose(found @ np.ones(n), 1, atol=1e-9)
    np.testing.assert_allclose(found @ found.T, np.eye(n), atol=1e-9)
    again = symmetry.nearest_orthogonal(found, fixing_ones=True)
    np.testing.assert_allclose(again, found, atol=1e-9)
    keys = jax.random.split(jax.random.key(seed), 20)
    others = [symmetry.random_orthogonal(k, (n,), fixing_ones=True) for k in keys]
    assert all(np.vdot(o, matrix) <= np.vdot(found, matrix) + 1e-4 for o in others)


@settings(max_examples=10, deadline=None)
@given(n=SIZES, seed=st.integers(0, 10**6))
def test_log_of_rotations_is_the_exponential_of_a_skew_matrix(n, seed):
    g = special(np.random.default_rng(seed), n)
    with jax.enable_x64(True):
        found = symmetry.log(g)
        angles = np.zeros((n, n))
        for k, a in enumerate(np.asarray(found.angles)):
            angles[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = [[0, -a], [a, 0]]
        z = np.asarray(found.basis)
        skew = z @ angles @ z.T
        for t in (0.0, 0.3, 1.0):
            expected = scipy.linalg.expm(t * skew)
            np.testing.assert_allclose(found.power(t), expected, atol=1e-9)
        np.testing.assert_allclose(found.power(1.0), g, atol=1e-9)
    assert np.abs(found.angles).max(initial=0) <= np.pi + 1e-12
    np.testing.assert_allclose(found.stretches, 0, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(n=SIZES, seed=st.integers(0, 10**6))
def test_log_joins_every_matrix_of_positive_determinant(n, seed):
    g = np.random.default_rng(seed).normal(size=(n, n))
    g[0] *= np.sign(np.linalg.det(g))
    with jax.enable_x64(True):
        found = symmetry.log(g)
        np.testing.assert_allclose(found.power(0.0), np.eye(n), atol=1e-9)
        np.testing.assert_allclose(found.power(1.0), g, atol=1e-8 * np.abs(g).max())
        for t in (0.25, 0.5):
            middle = np.asarray(found.power(t))
            assert np.linalg.det(middle) > 0
            np.testing.assert_allclose(
                middle @ np.asarray(found.inverse_power(t)), np.eye(n), atol=1e-7
            )


def test_minus_one_is_half_a_turn_of_pairs():
    g = np.diag([-1.0, 1.0, -1.0, -1.0, 1.0, -1.0, 1.0])
    found = symmetry.log(g)
    assert sorted(np.asarray(found.angles)) == [0.0, np.float32(np.pi), np.float32(np.pi)]
    np.testing.assert_allclose(found.power(1.0), g, atol=1e-6)
    with jax.enable_x64(True):  # what fixes the constant vector stays so
        turned = symmetry.nearest_orthogonal(np.diag([1.0, -1.0, -1.0]), fixing_ones=True)
        turned = turned if np.linalg.det(turned) > 0 else turned[[1, 0, 2]]
        middle = symmetry.log(turned).power(0.5)
        np.testing.assert_allclose(middle @ np.ones(3), 1, atol=1e-9)


def test_powers_are_jax():
    rng = np.random.default_rng(0)
    g = np.stack([special(rng, 4), special(rng, 4)]).astype(np.float32)
    found = symmetry.log(g)
    every = jax.jit(jax.vmap(found.power))(jnp.linspace(0, 1, 5))
    assert every.shape == (5, 2, 4, 4)
    assert every.dtype == jnp.float32
    h = 1e-2
    velocity = jax.jacfwd(found.power)(0.5)
    difference = (found.power(0.5 + h) - found.power(0.5 - h)) / (2 * h)
    np.testing.assert_allclose(velocity, difference, atol=1e-3)


@pytest.mark.parametrize(
    ("g", "words"),
    [
        (np.diag([1.0, -1.0]), "negative determinant"),
        (np.stack([np.eye(2), np.diag([1.0, -1.0])]), r"at index \(1,\)"),
        (np.array([[1.0, 2.0], [2.0, 4.0]]), "singular to rounding"),
        (np.zeros((2, 2)), "singular"),
        (np.full((2, 2), np.nan), "not finite"),
        (np.eye(2) * 1j, "real numbers"),
        (np.ones((2, 3)), r"square matrices .* \(2, 3\)"),
        (np.ones(3), "square"),
    ],
)
def test_no_logarithm(g, words):
    with pytest.raises(ValueError, match=words):
        symmetry.log(g)
