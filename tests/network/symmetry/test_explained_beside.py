"""`explain()` shows the factors that `group.symmetry` leaves out."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import mcjax


def normalised(p, x):
    h = x @ p["in"]
    h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5)
    return jax.nn.relu(h * p["scale"]) @ p["out"]


def test_scales_after_a_norm_are_shown():
    shapes = {"in": (3, 6), "scale": (6,), "out": (6, 2)}
    types = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()}
    network = mcjax.trace(normalised, types, jnp.ones((2, 3)), check=False)
    assert network.groups["in"].symmetry == "permutation"
    lines = network.explain().splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("in (6,): permutation"))
    assert lines[place + 1] in (
        "  and positive factors of out, scale",
        "  and positive factors of scale, out",
    )
    action = mcjax.Action.random(network, jax.random.key(0))
    assert "positive" in repr(action)
