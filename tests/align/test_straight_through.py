"""The straight-through path, whose gradient is not that of what it computes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import mcjax
from mcjax.align import StraightThroughPath
from mcjax.testing.models.catalogue import MLP, linen, vectors


def planted():
    case = linen(MLP(), vectors(), [(8,), (9,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    a = case.another(1)
    b = network.permute(network.random_permutations(jax.random.key(0)), a)
    return network, a, b


def test_it_goes_to_the_end_matched_to_its_target():
    network, a, b = planted()
    path = StraightThroughPath(network, a, b, a)
    for t in (0.0, 0.3, 1.0):  # matched, B is A
        for at in (path.at, jax.jit(path.at)):
            jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-6), at(t), a)
    moved = network.permute({n: p.argmax(-1) for n, p in path.plans().items()}, b)
    jax.tree.map(np.testing.assert_array_equal, moved, a)


def test_the_gradient_is_passed_on_to_the_target():
    network, a, b = planted()
    weights = jax.tree.map(lambda v: jnp.cos(jnp.arange(v.size, dtype=v.dtype)).reshape(v.shape), a)

    def value(target):
        point = StraightThroughPath(network, a, b, target).at(0.25)
        return sum(jnp.sum(u * v) for u, v in zip(*map(jax.tree.leaves, (point, weights))))

    gradient = jax.grad(value)(a)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, 0.25 * w, atol=1e-6), gradient, weights)
