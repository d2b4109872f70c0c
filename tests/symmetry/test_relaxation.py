"""Doubly stochastic matrices in the place of permutations."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.symmetry import matrices_of, transport

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
