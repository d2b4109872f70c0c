"""Weight matching of the layers of a scan, one after the other."""

from __future__ import annotations

import tracemalloc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.align import match_weights
from mcjax.align.parameters import Products


def stack(seed, layers=6, width=4, hidden=32):
    rng = np.random.default_rng(seed)
    shapes = {"in": (layers, width, hidden), "b": (layers, hidden), "out": (layers, hidden, width)}
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


def model(p, x):
    step = lambda x, w: (x + jnp.tanh(x @ w["in"] + w["b"]) @ w["out"], None)
    return jax.lax.scan(step, x, p)[0]


@pytest.mark.parametrize("size", [1.0, 1e-30])
def test_layers_of_a_scan_are_matched_one_by_one(size):
    """Against the problem of all layers at once, some units of which float32 would lose."""
    a, b = (stack(seed) for seed in (0, 1))
    a, b = ({n: v.at[..., :2].multiply(size) if n == "in" else v for n, v in p.items()}
            for p in (a, b))  # fmt: skip
    network = mcjax.trace(model, a, jnp.ones((2, 4)), check=False)
    ((name, group),) = network.groups.items()
    arrays = [[np.asarray(v) for v in jax.tree.leaves(p)] for p in (a, b)]
    axis, parts = Products(network, arrays[0], [[group.atom]]).problems(arrays[1], 0)
    assert axis is group.outer[0]
    (whole,) = Products(network, arrays[0], [[group.atom]]).problem(arrays[1], 0).terms
    forms = ("lu,lv->luv", "lwu,lwv->luv", "luw,lvw->luv")  # b, in, out
    pairs = zip(*arrays, strict=True)
    products = (np.einsum(f, *map(np.float64, p)) for f, p in zip(forms, pairs, strict=True))
    expected: Any = sum(products)
    np.testing.assert_allclose(whole.profit, expected, atol=1e-4)
    for k, part in enumerate(parts):
        (term,) = part.terms
        np.testing.assert_allclose(term.profit, expected[k], atol=1e-4)
    moved = network.permute(network.random_permutations(jax.random.key(0)), a)
    found = match_weights(network, a, moved)
    assert found.status == "optimal"
    assert found.permutations[name].shape == (6, 32)


def test_memory_of_a_stack_is_that_of_a_layer():
    """The profits of 16 layers of 512 units would take 17 MB, eight times their parameters."""
    a, b = (stack(seed, 16, 32, 512) for seed in (0, 1))
    network = mcjax.trace(model, a, jnp.ones((2, 32)), check=False)
    match_weights(network, a, b)
    tracemalloc.start()
    match_weights(network, a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * sum(v.nbytes for v in a.values())
