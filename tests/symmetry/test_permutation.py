"""Permutations as a group: laws against plain NumPy, on sizes chosen by hypothesis."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mcjax

HEADS, UNITS = 3, 4


def attention(p, x):
    q, k, v = (jnp.einsum("btd,dhu->bthu", x, p[n]) for n in "qkv")
    s = jax.nn.softmax(jnp.einsum("bthu,bshu->bhts", q, k))
    return jnp.einsum("bhts,bshu,huo->bto", s, v, p["o"])


@pytest.fixture(scope="module")
def network():
    shape = (5, HEADS, UNITS)
    params = {n: jnp.ones(shape) for n in "qkv"} | {"o": jnp.ones((HEADS, UNITS, 2))}
    return mcjax.trace(attention, params, jnp.ones((2, 3, 5)))


def permutations(seed):
    rng = np.random.default_rng(seed)
    inner = lambda: np.stack([rng.permutation(UNITS) for _ in range(HEADS)])
    return {"q": rng.permutation(HEADS), "q:1": inner(), "v": inner()}


def by_hand(p, params):
    """Gather each leaf element by element, from the definition."""
    out = {}
    for name, leaf in params.items():
        leaf = np.asarray(leaf)
        inner = p["v"] if name in "vo" else p["q:1"]
        new = np.empty_like(leaf)
        for i in range(HEADS):
            for j in range(UNITS):
                if name == "o":
                    new[i, j] = leaf[p["q"][i], inner[i, j]]
                else:
                    new[:, i, j] = leaf[:, p["q"][i], inner[i, j]]
        out[name] = new
    return out


def random_params(seed):
    rng = np.random.default_rng(seed)
    params = {n: rng.normal(size=(5, HEADS, UNITS)).astype(np.float32) for n in "qkv"}
    return params | {"o": rng.normal(size=(HEADS, UNITS, 2)).astype(np.float32)}


def test_group_names_of_the_fixture(network):
    assert {n: g.shape for n, g in network.groups.items()} == {
        "q": (HEADS,), "q:1": (HEADS, UNITS), "v": (HEADS, UNITS)
    }  # fmt: skip
    assert network.groups["v"].over == ("q",)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_apply_is_the_definition(network, seed):
    p, params = permutations(seed), random_params(seed)
    jax.tree.map(np.testing.assert_array_equal, network.permute(p, params), by_hand(p, params))


@settings(max_examples=25, deadline=None)
@given(seeds=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)))
def test_laws(network, seeds):
    p, q, r = map(permutations, seeds)
    compose, invert = mcjax.symmetry.compose, mcjax.symmetry.invert
    left = compose(network, compose(network, p, q), r)
    right = compose(network, p, compose(network, q, r))
    for name in network.groups:
        np.testing.assert_array_equal(left[name], right[name])
    unit = compose(network, p, invert(network, p))
    for name, expected in mcjax.symmetry.identity(network).items():
        np.testing.assert_array_equal(unit[name], expected)


def test_partial_permutations_leave_the_rest(network):
    params = random_params(0)
    only = {"v": permutations(1)["v"]}
    moved = network.permute(only, params)
    np.testing.assert_array_equal(moved["q"], params["q"])
    back = network.permute(mcjax.symmetry.invert(network, only), moved)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_random_is_uniform(network):
    keys = jax.random.split(jax.random.key(0), 3000)
    found = np.asarray(jax.vmap(lambda k: network.random_permutations(k)["q"])(keys))
    counts = np.array([(found[:, 0] == i).mean() for i in range(HEADS)])
    np.testing.assert_allclose(counts, 1 / HEADS, atol=0.04)


def test_compose_checks_its_arguments(network):
    with pytest.raises(ValueError, match="unknown group"):
        mcjax.symmetry.compose(network, {"x": np.arange(3)}, {})
