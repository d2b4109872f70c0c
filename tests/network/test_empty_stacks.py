"""Stacks without layers, and parameters without entries, laid one after the other."""

import jax
import jax.numpy as jnp
import numpy as np

import mcjax


def traced(apply_fn, shapes):
    rng = np.random.default_rng(0)
    params = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
    x = jnp.asarray(rng.normal(size=(6, 5)), jnp.float32)
    network = mcjax.trace(apply_fn, params, x)  # verified
    moved = network.permute(network.random_permutations(jax.random.key(0)), params)
    want, found = apply_fn(params, x), apply_fn(moved, x)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)
    return network


def test_a_scan_over_no_layers_leaves_the_hidden_units_free():
    def apply_fn(p, x):
        def layer(h, w):
            return h + jnp.tanh(h @ w["up"]) @ w["down"], None

        stack = {k: p[k] for k in ("up", "down")}
        return jax.lax.scan(layer, x @ p["in"], stack)[0] @ p["out"]

    shapes = {"in": (5, 8), "up": (0, 8, 7), "down": (0, 7, 8), "out": (8, 3)}
    assert traced(apply_fn, shapes).groups["in"].shape == (8,)


def test_empty_parameters_laid_together_say_nothing():
    def apply_fn(p, x):
        empty = jnp.concatenate([p["one"], p["other"]])
        return jnp.tanh(x @ p["in"]) @ p["out"] + empty.sum()

    shapes = {"in": (5, 8), "one": (0, 8), "other": (0, 8), "out": (8, 3)}
    assert traced(apply_fn, shapes).groups["in"].shape == (8,)
