"""Small networks that the tests of merging methods share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import mcjax
from mcjax.merge import PRESETS, merge


def mlp(p, x):
    h = jax.nn.relu(x @ p["w1"] + p["b1"])
    return h @ p["w2"] + p["b2"]


def draw(seed, scale=1.0, around=None):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (4, 6), "b1": (6,), "w2": (6, 3), "b2": (3,)}
    around = around or dict.fromkeys(shapes, 0.0)
    return {
        n: jnp.asarray(around[n] + scale * rng.normal(size=s), jnp.float32)
        for n, s in shapes.items()
    }


X = jnp.asarray(np.random.default_rng(9).normal(size=(60, 4)), jnp.float32)
Y = np.arange(60) % 3
BASE = draw(0)
TUNED = [draw(i, 0.3, BASE) for i in (1, 2, 3)]
NETWORK = mcjax.trace(mlp, BASE, X)
NAMES = [*BASE]


def wide(tree):
    return {n: np.asarray(v, np.float64) for n, v in tree.items()}


def merged(method, networks=TUNED, **more):
    more = {"base": BASE, "x": X, "y": Y} | more
    if getattr(PRESETS.get(method, method), "pairs_only", False):
        networks = networks[:2]
    return merge(NETWORK, networks, method, **more).params


def close(made, wanted, tolerance=1e-5):
    assert {*made} == {*wanted}
    for name in wanted:
        np.testing.assert_allclose(made[name], wanted[name], rtol=tolerance, atol=tolerance)
