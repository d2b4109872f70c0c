"""n networks at once."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import mcjax
from mcjax.align import match_many, match_weights
from mcjax.testing.models.catalogue import MLP, linen, vectors

from ..conftest import traced


def inner(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(float(np.sum(np.asarray(x, float) * np.asarray(y, float))) for x, y in pairs)


@pytest.mark.parametrize("name", ["mlp", "convnet", "inception", "layernorm", "transformer"])
def test_planted_permutations_of_three_networks(name):
    case, network = traced(name)
    a = case.another(1)
    turned = [a] + [
        network.permute(network.random_permutations(jax.random.key(k)), a) for k in (1, 2)
    ]
    found = match_many(network, turned)
    for p, t in zip(found.permutations, turned, strict=True):
        jax.tree.map(np.testing.assert_array_equal, network.permute(p, t), a)


def test_cycles_are_the_identity_and_the_objective_does_not_fall():
    case = linen(MLP((12, 10)), vectors(), [(12,), (10,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    networks = [jax.tree.map(np.asarray, case.another(k)) for k in range(4)]
    found = match_many(network, networks)
    for i, j, k in ((0, 1, 2), (3, 1, 0)):
        ij, jk, ki = (
            mcjax.Action.of(network, found.between(*pair)) for pair in ((i, j), (j, k), (k, i))
        )
        assert (ij @ jk @ ki).allclose(mcjax.Action.identity(network))
    assert (np.diff(found.objective[:-1]) > 0).all()
    aligned = [network.permute(p, v) for p, v in zip(found.permutations, networks, strict=True)]
    value = sum(inner(aligned[i], aligned[j]) for i in range(4) for j in range(i))
    assert found.objective[-1] == pytest.approx(value, rel=1e-4)
    # Not worse than matching each to the first on its own.
    alone = [networks[0]] + [
        network.permute(match_weights(network, networks[0], v).permutations, v)
        for v in networks[1:]
    ]
    assert value >= sum(inner(alone[i], alone[j]) for i in range(4) for j in range(i)) - 1e-3
    np.testing.assert_array_equal(found.permutations[0]["Dense_0"], np.arange(12))


def test_one_network_is_not_enough():
    case = linen(MLP(), vectors(), [(8,), (9,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    with pytest.raises(ValueError, match="at least two are needed, got 1"):
        match_many(network, [case.params])
