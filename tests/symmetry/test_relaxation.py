"""Doubly stochastic matrices in the place of permutations."""

from __future__ import annotations

import functools
import itertools

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import mcjax
from mcjax.symmetry import matrices_of, transport
from mcjax.symmetry.relaxation import nearest_permutation, project, sinkhorn

from ..catalogue import MLP, linen, vectors


def test_permutation_matrices_permute(model):
    """On every architecture, dependent groups included."""
    case, network = model
    p = network.random_permutations(jax.random.key(2))
    moved = jax.jit(functools.partial(transport, network))(matrices_of(network, p), case.params)
    expected = network.permute(p, case.params)
    jax.tree.map(np.testing.assert_array_equal, moved, expected)


@pytest.mark.parametrize("model", ["mlp", "inception", "transformer", "scan"], indirect=True)
def test_transport_is_linear_in_each_matrix(model):
    """Half of one permutation and half of another: the mean, where one group moves."""
    case, network = model
    name = next(iter(network.groups))
    p, q = ({name: network.random_permutations(jax.random.key(k))[name]} for k in (0, 1))
    mixed = {name: (matrices_of(network, p)[name] + matrices_of(network, q)[name]) / 2}
    moved = transport(network, mixed, case.params)
    both = [network.permute(v, case.params) for v in (p, q)]
    atom = network.groups[name].atom
    for i, axes in enumerate(network.leaf_axes):
        here = [f for e in axes for f in mcjax.network.axes.atoms(e) if f is atom]
        if len(here) == 1:
            leaves = [jax.tree.leaves(v)[i] for v in (*both, moved)]
            np.testing.assert_allclose(leaves[2], (leaves[0] + leaves[1]) / 2, atol=1e-6)


def test_bad_matrices_are_named():
    case = linen(MLP(), vectors(), [(8,), (9,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    with pytest.raises(ValueError, match="unknown group 'nothing'"):
        transport(network, {"nothing": jnp.eye(8)}, case.params)
    name = next(iter(network.groups))
    with pytest.raises(ValueError, match=r"shape \(3, 3\), expected"):
        transport(network, {name: jnp.eye(3)}, case.params)


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
