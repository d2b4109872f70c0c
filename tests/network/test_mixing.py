"""Doubly stochastic matrices in the place of permutations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.testing.models.catalogue import MLP, linen, vectors

from ..conftest import PLAIN


@pytest.mark.parametrize("model", PLAIN, indirect=True)
def test_permutation_matrices_permute(model):
    """On every architecture, dependent groups included."""
    case, network = model
    action = mcjax.Action.of(network, network.random_permutations(jax.random.key(2)))
    moved = jax.jit(network.mix)(action.matrices(), case.params)
    jax.tree.map(np.testing.assert_array_equal, moved, action(case.params))


@pytest.mark.parametrize("model", ["mlp", "inception", "transformer", "scan"], indirect=True)
def test_mixing_is_linear_in_each_matrix(model):
    """Half of one permutation and half of another: the mean, where one group moves."""
    case, network = model
    name = next(iter(network.groups))
    p, q = ({name: network.random_permutations(jax.random.key(k))[name]} for k in (0, 1))
    matrices = [mcjax.Action.of(network, v).matrices()[name] for v in (p, q)]
    moved = network.mix({name: sum(matrices) / 2}, case.params)
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
        network.mix({"nothing": jnp.eye(8)}, case.params)
    name = next(iter(network.groups))
    with pytest.raises(ValueError, match=r"shape \(3, 3\), expected"):
        network.mix({name: jnp.eye(3)}, case.params)
    n = network.groups[name].size
    bad = {
        "NaN": jnp.full((n, n), jnp.nan),
        "it holds -0.5": jnp.eye(n).at[0, :2].set(jnp.array([1.5, -0.5])),
        "a row misses 1 by 1": jnp.eye(n).at[0, 0].set(0).at[0, 0].set(2),
        "a column misses 1": jnp.eye(n)[jnp.zeros(n, int)],
    }
    for why, matrix in bad.items():
        with pytest.raises(ValueError, match=f"not doubly stochastic.*{why}"):
            network.mix({name: matrix}, case.params)
    free = network.mix({name: bad["it holds -0.5"]}, case.params, check=False)
    assert jax.tree.structure(free) == jax.tree.structure(case.params)
