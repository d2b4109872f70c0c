"""Activation matching over the whole group: planted elements are found again from activations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.align import match_activations, match_weights
from tests.align.test_whole_group import length

SHAPES = {
    "in": (5, 6), "q": (6, 2, 3), "k": (6, 2, 3), "v": (6, 2, 3), "o": (2, 3, 6),
    "gate": (6, 7), "up": (6, 7), "down": (7, 6), "w": (6, 8), "out": (8, 3),
}  # fmt: skip


def norm(h):
    return h / jnp.sqrt((h**2).mean(-1, keepdims=True) + 1e-6)


def model(p, x):
    """A stream that rotates, heads of invertible matrices, gates with signs, scaled units."""
    h = x @ p["in"]
    q, k, v = (jnp.einsum("btd,dhe->bthe", norm(h), p[n]) for n in "qkv")
    weights = jax.nn.softmax(jnp.einsum("bthe,bshe->bhts", q, k), -1)
    h = h + jnp.einsum("bhts,bshe,hed->btd", weights, v, p["o"])
    h = h + (jax.nn.silu(norm(h) @ p["gate"]) * (norm(h) @ p["up"])) @ p["down"]
    return jax.nn.relu(norm(h) @ p["w"]) @ p["out"]


def params(seed):
    rng = np.random.default_rng(seed)
    return {
        n: jnp.asarray(rng.normal(size=s) / np.sqrt(s[0]), jnp.float32) for n, s in SHAPES.items()
    }


X = np.random.default_rng(9).normal(size=(60, 4, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    return mcjax.trace(model, params(0), X[:2])


def off(a, b):
    return length(jax.tree.map(lambda v, w: v - w, a, b)) / length(a)


@pytest.mark.parametrize("tap", ["post", "pre"])
def test_a_random_element_of_the_whole_group_is_found(network, tap):
    kinds = {g.symmetry for g in network.groups.values()}
    assert {"orthogonal", "general linear", "monomial", "positive monomial"} <= kinds
    b = params(1)
    a = mcjax.Action.random(network, jax.random.key(2))(b)
    found = match_activations(network, a, b, X, tap=tap, symmetry="full")
    moved = found.action(network)(b)
    assert off(a, b) > 0.5
    assert off(a, moved) < 1e-3  # float32, of covariances
    assert found.status == "optimal"
    assert not found.unmatched
    np.testing.assert_allclose(model(moved, X), model(b, X), rtol=1e-2, atol=1e-3)


def test_between_two_networks_deviations_become_the_same(network):
    a, b = params(3), params(4)
    found = match_activations(network, a, b, X, symmetry="full")
    moved = found.action(network)(b)
    np.testing.assert_allclose(model(moved, X), model(b, X), rtol=1e-2, atol=1e-3)
    units = [np.asarray(network.activations(p, X)["w"][0], np.float64) for p in (a, moved)]
    first, second = (v.reshape(-1, 8).std(0) for v in units)
    np.testing.assert_allclose(first, second, rtol=1e-3)
    signed = [np.corrcoef(u.T, v.T)[:8, 8:] for u, v in [[v.reshape(-1, 8) for v in units]]]
    best = np.trace(signed[0])  # no exchange of two units correlates more
    for i in range(8):
        for j in range(i):
            p = np.arange(8)
            p[[i, j]] = p[[j, i]]
            assert signed[0][np.arange(8), p].sum() <= best + 1e-4


def test_what_activations_do_not_show_is_said_and_found_by_weights():
    """The scale of a norm takes back the sign of what is written: its tanh does not change."""

    def f(p, x):
        return jnp.tanh(norm(x @ p["w"]) * p["scale"]) @ p["out"]

    rng = np.random.default_rng(0)
    sizes = {"w": (4, 6), "scale": (6,), "out": (6, 3)}
    b = {n: jnp.asarray(rng.normal(size=s) + 0.5, jnp.float32) for n, s in sizes.items()}
    x = X[:, 0, :4]
    network = mcjax.trace(f, b, x[:2])
    a = mcjax.Action.random(network, jax.random.key(1))(b)
    first = match_activations(network, a, b, x, symmetry="full")
    assert first.status == "incomplete"
    assert "shows all of 'sign'" in first.unmatched["w"]
    np.testing.assert_allclose(f(first.action(network)(b), x), f(b, x), rtol=1e-3, atol=1e-4)
    second = match_weights(network, a, b, init=first, symmetry="full")
    assert off(a, second.action(network)(b)) < 1e-4


def test_what_cannot_be_asked(network):
    p = params(0)
    with pytest.raises(ValueError, match="statistic must be 'correlation' with symmetry='full'"):
        match_activations(network, p, p, X, "l2", symmetry="full")
    with pytest.raises(ValueError, match="symmetry must be"):
        match_activations(network, p, p, X, symmetry="all")
