"""Permutations and actions as groups: laws against plain NumPy, on elements drawn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mcjax
from mcjax.symmetry import compose, identity, invert, random

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
    p, q, r = (mcjax.Action.of(network, permutations(s)) for s in seeds)
    assert ((p @ q) @ r).allclose(p @ (q @ r))
    unit, params = mcjax.Action.identity(network), random_params(seeds[0])
    assert (p @ p.inverse()).allclose(unit)
    assert (p.inverse() @ p).allclose(unit)
    assert (p @ unit).allclose(p)
    both = by_hand(p.permutations, by_hand(q.permutations, params))
    jax.tree.map(np.testing.assert_array_equal, (p @ q)(params), both)
    jax.tree.map(np.testing.assert_array_equal, unit(params), params)


def test_partial_permutations_leave_the_rest(network):
    params = random_params(0)
    only = {"v": permutations(1)["v"]}
    moved = network.permute(only, params)
    np.testing.assert_array_equal(moved["q"], params["q"])
    action = mcjax.Action.of(network, only)
    assert set(action.permutations) == set(network.groups)
    jax.tree.map(np.testing.assert_array_equal, action.inverse()(moved), params)


def test_random_is_uniform(network):
    keys = jax.random.split(jax.random.key(0), 3000)
    found = np.asarray(jax.vmap(lambda k: network.random_permutations(k)["q"])(keys))
    counts = np.array([(found[:, 0] == i).mean() for i in range(HEADS)])
    np.testing.assert_allclose(counts, 1 / HEADS, atol=0.04)


def test_arrays_alone():
    """Two networks' worth of names, no network: the nesting is told."""
    nesting = {"heads": (), "layers": (), "inner": ("layers", "axis", "heads")}
    shapes = {"heads": (2,), "layers": (3,), "inner": (3, 2, 2, 4)}
    p, q = (random(shapes, jax.random.key(k)) for k in (0, 1))
    found = compose(p, q, nesting)["inner"]
    for i, j, k, m in np.ndindex(shapes["inner"]):
        at = (p["layers"][i], j, p["heads"][k], p["inner"][i, j, k, m])
        assert found[i, j, k, m] == q["inner"][at]
    unit = compose(p, invert(p, nesting), nesting)
    for name, expected in identity(shapes).items():
        np.testing.assert_array_equal(unit[name], expected)


# -- actions ---------------------------------------------------------------------------------


def close(a, b):
    """To the rounding of products with matrices of condition 10."""
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_actions_are_values_and_pytrees(network):
    a, b = (mcjax.Action.random(network, jax.random.key(k)) for k in (0, 1))
    params = random_params(3)
    jitted = jax.jit(lambda a, b, p: ((a @ b.inverse())(p), (a @ b).allclose(b @ a)))
    moved, same = jitted(a, b, params)
    jax.tree.map(close, moved, a(b.inverse()(params)))
    assert bool(same) == (a @ b).allclose(b @ a)
    stacked = jax.tree.map(lambda *v: jnp.stack(v), a, b)
    every = jax.vmap(lambda action, p: action(p), (0, None))(stacked, params)
    for i, action in enumerate((a, b)):
        jax.tree.map(lambda v, w, i=i: close(v[i], w), every, action(params))
    inverses = jax.vmap(lambda action: action.inverse())(stacked)
    assert jax.tree.map(lambda v: v[1], inverses).allclose(b.inverse())
    with pytest.raises(AttributeError, match="cannot change"):
        a.network = None
    a.permutations["q"] = "something else"
    assert a.allclose(jax.tree.map(lambda v: v, a))
    assert repr(mcjax.Action.of(network, {"q": np.array([1, 0, 2])})) == (
        "Action(q: 2 of 3 move, q:1: 0 of 12 move, v: 0 of 12 move)"
    )
    assert "q: (2, 3)" in repr(stacked)


def test_matrices_of_an_action_permute(network):
    action = mcjax.Action.of(network, permutations(4))
    params = random_params(5)
    jax.tree.map(
        np.testing.assert_array_equal, network.mix(action.matrices(), params), action(params)
    )


def test_permutations_or_an_action_will_do(network):
    p, params = permutations(0), random_params(1)
    action = mcjax.Action.of(network, p)
    jax.tree.map(
        np.testing.assert_array_equal, network.permute(action, params), network.permute(p, params)
    )
    assert mcjax.Action.of(network, action).allclose(action)


def test_actions_check_their_arguments(network):
    params = random_params(0)
    with pytest.raises(ValueError, match="unknown group"):
        mcjax.Action.of(network, {"x": np.arange(3)})
    with pytest.raises(ValueError, match="no permutation"):
        mcjax.Action.of(network, {"q": np.array([0, 0, 1])})
    with pytest.raises(ValueError, match=r"Matching; pass its \.permutations"):
        network.permute(mcjax.align.match_weights(network, params, params), params)
    with pytest.raises(ValueError, match=r"network must be a mcjax\.Network.*got a function"):
        mcjax.Action.identity(attention)
    with pytest.raises(TypeError, match=r"Action\.of"):
        mcjax.Action(network, {})
    weights = {"a": jnp.ones((2, 3)), "b": jnp.ones((3, 1))}
    other = mcjax.trace(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], weights, jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="different networks"):
        mcjax.Action.identity(network) @ mcjax.Action.identity(other)
    with pytest.raises(ValueError, match="unknown group 'a'"):
        network.permute(mcjax.Action.identity(other), params)
