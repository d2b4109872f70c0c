"""Components of groups, orbits and level sets, against enumeration."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax import theory
from tests.conftest import traced


def test_components_of_groups_by_enumeration():
    for n in (1, 2, 3):
        every = list(itertools.permutations(range(n)))
        assert theory.group_components("permutation", n) == len(every)
        assert theory.group_components("signed permutation", n) == len(every) * 2**n
    assert theory.level_set_components_bound([2, 3]) == 5
    with pytest.raises(ValueError, match="one of permutation"):
        theory.group_components("affine", 2)
    with pytest.raises(ValueError, match=r"orbits\[1\]"):
        theory.level_set_components_bound([2, 0])


def network_of(activation, sizes, seed=0):
    """(network, parameters) of x ↦ … φ(x W₁) W₂ …, without biases."""
    rng = np.random.default_rng(seed)
    shapes = itertools.pairwise(sizes)
    params = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]

    def apply(w, x):
        for layer in w[:-1]:
            x = activation(x @ layer)
        return x @ w[-1]

    return mcjax.trace(apply, params, jnp.ones((2, sizes[0]))), params


@pytest.mark.parametrize("sizes", [(2, 3, 2), (2, 2, 2, 1)])
def test_a_finite_orbit_has_as_many_points_as_the_bound(sizes):
    network, params = network_of(jnp.tanh, sizes)
    signed = [
        (name, np.array(p), np.array(s, np.float32))
        for name, group in network.groups.items()
        for p in itertools.permutations(range(group.size))
        for s in itertools.product((1, -1), repeat=group.size)
    ]
    points = set()
    for choice in itertools.product(*[[e for e in signed if e[0] == n] for n in network.groups]):
        action = mcjax.Action.of(
            network, {n: p for n, p, _ in choice}, {n: {"sign": s} for n, _, s in choice}
        )
        points.add(np.concatenate([np.ravel(w) for w in action(params)]).tobytes())
    found = theory.orbit_components(network)
    assert found.bound == len(points)
    # Permutations join all but the signs.
    assert found.bound_up_to_permutations == math.prod(2**n for n in sizes[1:-1])


def test_scalings_do_not_count():
    network, params = network_of(jax.nn.relu, (2, 3, 2))
    classes = set()
    for p in itertools.permutations(range(3)):
        moved = mcjax.Action.of(network, {next(iter(network.groups)): np.array(p)})(params)
        length = np.linalg.norm(moved[0], axis=0)  # one point of each orbit of the scalings
        classes.add(np.round(np.asarray(moved[0]) / length, 5).tobytes())
    found = theory.orbit_components(network)
    assert (found.bound, found.bound_up_to_permutations) == (len(classes), 1) == (6, 1)


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_square_linear_networks_have_the_components_of_the_paper(layers):
    network, params = network_of(lambda z: z, (3,) * (layers + 1))
    labels = set()
    for i in range(60):
        moved = mcjax.Action.random(network, jax.random.key(i))(params)
        labels.add(theory.component_label([np.asarray(w).T for w in moved]))
    found = theory.orbit_components(network)
    assert found.bound == len(labels) == theory.component_count(layers)
    assert found.bound_up_to_permutations == 1  # Prop. 5.2


def test_a_wide_linear_layer_has_a_connected_orbit_below_the_bound():
    """An element of negative determinant keeps W₁ (2 × 5) and W₂ (5 × 2)."""
    network, (first, second) = network_of(lambda z: z, (2, 5, 2))
    assert theory.orbit_components(network).bound == 2
    # 1 + N: N is 0 on the rows of W₁, and what it makes is unseen by W₂.
    seen, unseen = (np.linalg.svd(np.asarray(w, float))[2] for w in (first, second.T))
    outside, inside = seen[2:].T, unseen[2:].T  # orthogonal to W₁'s rows; in the kernel of W₂ᵀ
    turn = outside.T @ inside
    n = inside @ np.diag([-2.0, 0, 0]) @ np.linalg.inv(turn) @ outside.T
    g = np.eye(5) + n
    assert np.linalg.det(g) < 0
    name = next(iter(network.groups))
    action = mcjax.Action.of(network, elements={name: {"general linear": g.astype(np.float32)}})
    for moved, same in zip(action([first, second]), (first, second), strict=True):
        np.testing.assert_allclose(moved, same, atol=1e-4)


def test_heads_count_one_by_one():
    """A linear stream: GL(12); 4 heads, permuted; in each a GL(6) of Q and K, one of V and O."""
    _, network = traced("attention-fused-reshape")
    found = theory.orbit_components(network)
    assert sorted(found.groups.values()) == sorted([2, math.factorial(4), 2**4, 2**4])
    assert (found.bound, found.bound_up_to_permutations) == (2 * 24 * 16 * 16, 1)


def test_numbers_of_thousands_of_digits_are_shown():
    network, _ = network_of(jnp.tanh, (1, 3000, 1))
    found = theory.orbit_components(network)
    assert found.bound == 2**3000 * math.factorial(3000)
    assert repr(found).startswith("OrbitComponents(at most 10^10033.")
