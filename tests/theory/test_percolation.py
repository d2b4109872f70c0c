"""Percolation against breadth-first search, simulation and iterated fixed points."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcjax.theory import (
    cell_side,
    infinite_cluster,
    lipschitz_bound,
    outside_infinite_cluster,
    percolate,
)


def by_search(dimension, side, p, seed):
    """Sizes of clusters by walking from site to site, coordinates as tuples."""
    here = np.random.default_rng(seed).random(side**dimension, np.float32) < p
    sites = itertools.product(range(side), repeat=dimension)
    left = {s for s, occupied in zip(sites, here, strict=True) if occupied}
    sizes = []
    while left:
        front, size = [left.pop()], 1
        while front:
            site = front.pop()
            for axis, step in itertools.product(range(dimension), (-1, 1)):
                beside = (*site[:axis], site[axis] + step, *site[axis + 1 :])
                if beside in left:
                    left.remove(beside)
                    front.append(beside)
                    size += 1
        sizes.append(size)
    return sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("dimension", "side", "p"),
    [(1, 50, 0.7), (2, 12, 0.55), (3, 5, 0.3), (6, 2, 0.3), (4, 3, 0.0), (2, 4, 1.0)],
)
def test_clusters_are_those_of_a_search(dimension, side, p):
    for seed in range(3):
        found = percolate(dimension, side, p, seed=seed)
        sizes = by_search(dimension, side, p, seed)
        assert found.sizes.tolist() == sizes
        assert found.occupied == sum(sizes)
        assert found.largest == (sizes[0] / sum(sizes) if sizes else 0)


def test_two_sites_are_joined_as_often_as_pairs_are():
    found = percolate(2, 7, 0.5, seed=1)
    labels = np.repeat(np.arange(len(found.sizes)), found.sizes)
    pairs = list(itertools.combinations(labels, 2))
    assert found.joined == pytest.approx(np.mean([a == b for a, b in pairs]))
    assert math.isnan(percolate(2, 3, 0.0, seed=0).joined)


def test_the_fixed_point_is_that_of_its_iteration():
    q = np.array([0.0, 0.5, 1.0, 1.2, 2.0, 3.0, 10.0])
    p = np.ones_like(q)
    for _ in range(2000):
        p = 1 - np.exp(-q * p)
    p[q <= 1] = 0  # where the iteration falls as 1 / steps
    np.testing.assert_allclose(infinite_cluster(q), p, atol=1e-10)


def test_the_share_outside_corrected_and_as_printed():
    """At q = 3: 0.0595 is true; corrected to first order 0.0585; printed 0.0008."""
    true = 1 - infinite_cluster(3.0)
    assert true == pytest.approx(0.0595, abs=5e-5)
    assert outside_infinite_cluster(3.0) == pytest.approx(0.0585, abs=5e-5)
    assert math.exp(-3) / (1 + 3 * math.exp(3)) == pytest.approx(0.0008, abs=5e-5)
    q = np.linspace(3, 12, 20)
    outside = 1 - infinite_cluster(q)
    error = (outside - outside_infinite_cluster(q)) / outside
    assert (error > -1e-9).all()
    assert (error[1:] < error[:-1] + 1e-9).all()


def test_a_lattice_of_high_dimension_is_near_the_fixed_point_of_its_degree():
    """A side of 2: d neighbours, q = p d; of 4: 1.5 d on average."""
    for dimension, side, p in ((18, 2, 2 / 18), (18, 2, 3 / 18), (9, 4, 3 / 13.5)):
        found = percolate(dimension, side, p, seed=0)
        assert found.q == pytest.approx(p * dimension * (1 if side == 2 else 1.5))
        assert found.largest == pytest.approx(infinite_cluster(found.q), abs=0.06)
    # Half the degree, as q = p d has it on a long side, is far off.
    assert abs(percolate(9, 4, 3 / 13.5, seed=0).largest - infinite_cluster(1.5)) > 0.2
    assert percolate(18, 2, 0.5 / 18, seed=0).largest < 0.01


def test_the_bound_holds_and_is_reached():
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=s) for s in ((5, 9), (9, 7), (7, 3))]

    def network(x):
        for w in weights[:-1]:
            x = jnp.tanh(x @ w)
        return x @ weights[-1]

    bound = lipschitz_bound(weights)
    x = rng.normal(size=(200, 5))
    jacobians = jax.vmap(jax.jacobian(network))(x)
    assert np.linalg.norm(jacobians, 2, axis=(1, 2)).max() <= bound * (1 + 1e-5)
    # tanh at 0 has slope 1, and matrices of rank 1 in line reach the product.
    u, v, w = (a / np.linalg.norm(a) for a in (rng.normal(size=(k,)) for k in (5, 9, 3)))
    weights = [2 * np.outer(u, v), 3 * np.outer(v, w)]
    at_zero = jax.jacobian(network)(np.zeros(5))
    assert np.linalg.norm(at_zero, 2) == pytest.approx(lipschitz_bound(weights), rel=1e-5)
    assert lipschitz_bound(weights, 0.5, 0.25) == pytest.approx(6 * 0.125)


def test_outputs_in_a_cell_differ_by_delta_at_most():
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=s) for s in ((6, 8), (8, 1))]
    side = cell_side(lipschitz_bound(weights), 6, 0.1, 0.02)
    corner, inside = rng.normal(size=(500, 6)), rng.uniform(0, side, (2, 500, 6))
    a, b = (np.maximum((corner + s) @ weights[0], 0) @ weights[1] for s in inside)
    assert np.abs(a - b).max() <= 0.08
    assert side * math.sqrt(6) * lipschitz_bound(weights) == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: percolate(0, 2, 0.5, seed=0), "dimension must be a positive integer"),
        (lambda: percolate(2, 1, 0.5, seed=0), "side must be 2 sites or more"),
        (lambda: percolate(2, 4, 1.5, seed=0), "p must be a probability"),
        (lambda: percolate(40, 2, 0.5, seed=0), "2\\^40 sites is too large"),
        (lambda: infinite_cluster(-1.0), "q must hold finite numbers ≥ 0"),
        (lambda: outside_infinite_cluster([3.0, 1.0]), "q must be > 1"),
        (lambda: lipschitz_bound([]), "one matrix at least"),
        (lambda: lipschitz_bound([np.ones(3)]), r"weights\[0\] must be a finite matrix"),
        (lambda: lipschitz_bound([np.eye(2)], 0.0), "slope must be positive"),
        (lambda: cell_side(1.0, 3, 0.1, 0.1), "0 ≤ similar < delta"),
        (lambda: cell_side(0.0, 3, 0.1), "bound must be positive"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
