"""What is linear in a leaf that a symmetry moves: computed once, then moved."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.network import linear
from mcjax.network.model import Model
from mcjax.network.program import run
from mcjax.path.sharing import saved_work, shared_part

from ..conftest import models, traced


def orbit(network, params, key=0):
    action, _ = mcjax.Action.random(network, jax.random.key(key)).split()
    return mcjax.path.Orbit(action, params)


def shared_at(path, model, x, t):
    """(The shared part, what of it is moved at t: value → array, the same values at θ(t))."""
    shared = shared_part(path, model, (), t)
    if shared.parts.moved is None:
        return shared, {}, {}
    frontier = shared.parts.moved.frontier
    found = shared.at(t, shared.values(x))
    leaves = [*jax.tree.leaves(path.at(t)), *jax.tree.leaves(x)]
    own = run(shared.parts.moved.program, leaves)[0]
    return shared, {v: found[v] for v in frontier}, dict(zip(frontier, own, strict=True))


QUICK = ("mlp", "grouped-convolution", "attention-fused-reshape")


@pytest.mark.parametrize("name", models(QUICK))
def test_moved_values_are_those_of_the_point(name, monkeypatch):
    """All values that carry a leaf, whether it is worth it or not."""
    monkeypatch.setattr(linear, "_WORTHWHILE", -1e9)
    case, network = traced(name)
    path = orbit(network, case.params)
    model = Model.of(network.function, case.params, case.x)
    shared, found, expected = shared_at(path, model, case.x, jnp.float32(0.37))
    moved = {i for i in path.transformed().axes if i not in path.fixed()}
    assert {c.leaf for c in shared.parts.carried.values()} == moved
    for value, array in expected.items():
        scale = float(jnp.abs(array).max())
        np.testing.assert_allclose(found[value], array, rtol=1e-4, atol=1e-4 * scale)


def heads(p, x):
    """Matrices of two heads each, fused; then a bottleneck and scaled units."""
    qkv = (x @ p["qkv"]).reshape(*x.shape[:2], 3, 2, 2)
    q, k, v = (qkv[:, :, i] for i in range(3))
    scores = jax.nn.softmax(jnp.einsum("bthe,bshe->bhts", q, k))
    h = jnp.einsum("bhts,bshe->bthe", scores, v).reshape(*x.shape[:2], 4)
    scaled = jax.nn.relu(x @ p["in"]) @ p["mid"]
    return h @ p["out"] + scaled + x @ p["low"] @ p["high"]


@pytest.fixture(scope="module")
def transformer():
    rng, shapes = np.random.default_rng(0), {
        "qkv": (80, 12), "out": (4, 3), "in": (80, 6), "mid": (6, 3), "low": (80, 2), "high": (2, 3)
    }  # fmt: skip
    params = {n: jnp.asarray(rng.normal(size=s) / 9, jnp.float32) for n, s in shapes.items()}
    x = jnp.asarray(rng.normal(size=(5, 3, 80)), jnp.float32)
    return mcjax.trace(heads, params, x), params, x


def test_first_layers_are_computed_once(transformer):
    """Of fused heads, of a bottleneck, of scaled units: none of their products is left per t."""
    network, params, x = transformer
    path = orbit(network, params)
    kinds = {f.kind for g in network.groups.values() for f in g.structure.factors}
    assert {"general linear", "positive"} <= kinds
    model = Model.of(network.function, params, x)
    shared, found, expected = shared_at(path, model, x, jnp.float32(0.61))
    assert sorted(v.shape for v in found.values()) == [(5, 3, 2), (5, 3, 6), (5, 3, 12)]
    for value, array in expected.items():
        np.testing.assert_allclose(found[value], array, rtol=1e-5, atol=1e-5)
    ts = jnp.linspace(0, 1, 5)
    assert saved_work(path, model, (), ts) == 4 * 5 * 3 * 80 * (12 + 6 + 2)
    # Leaves that something else gives are nobody's, and so is what was given for a value.
    replaced = saved_work(path, model, {network.leaf_names.index("in")}, ts)
    assert replaced == 4 * 5 * 3 * 80 * (12 + 2)
    some = next(iter(found))
    assert set(shared.at(0.5, shared.values(x, {some: expected[some]}))) == {some}


def test_a_sweep_is_that_of_each_point(transformer):
    network, params, x = transformer
    path, y = orbit(network, params, 3), np.arange(15).reshape(5, 3) % 3
    flat = lambda p, x: heads(p, x).sum(1)
    curve = mcjax.evaluate(path, flat, (x, y[:, 0]), 4, chunk=2)
    for t, loss in zip(curve.t, curve.loss, strict=True):
        logits = np.asarray(flat(path(float(t)), x), np.float64)
        own = np.log(np.exp(logits).sum(1)) - logits[np.arange(5), y[:, 0]]
        assert loss == pytest.approx(own.mean(), rel=1e-5)


def test_kernels_whose_features_are_mixed():
    """A convolution's output features; not where its groups differ, and not a row of it."""

    def of(groups):
        numbers = ("NHC", "HIO", "NHC")
        conv = lambda x, w, g: jax.lax.conv_general_dilated(
            x, w, (1,), "SAME", dimension_numbers=numbers, feature_group_count=g
        )
        model = lambda p, x: jax.nn.relu(conv(x, p["k"], groups)).mean(1) @ p["o"]
        rng = np.random.default_rng(0)
        params = {"k": jnp.asarray(rng.normal(size=(5, 8 // groups, 4)), jnp.float32),
                  "o": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)}  # fmt: skip
        x = jnp.asarray(rng.normal(size=(3, 6, 8)), jnp.float32)
        network = mcjax.trace(model, params, x)
        path = orbit(network, params)
        return shared_at(path, Model.of(network.function, params, x), x, jnp.float32(0.3))[1:]

    found, expected = of(1)
    (value,) = found
    np.testing.assert_allclose(found[value], expected[value], rtol=1e-5, atol=1e-5)
    assert of(2) == ({}, {})
