"""`explain()`: factors that `group.symmetry` leaves out, parts of heads, absorbed scales."""

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
        "  and positive: out c⁻¹, scale c",
        "  and positive: out c, scale c⁻¹",
    )
    action = mcjax.Action.random(network, jax.random.key(0))
    assert "positive" in repr(action)


def test_heads_are_shown_part_by_part():
    def fused(p, x):
        q, k, v = jnp.moveaxis((x @ p["qkv"]).reshape(*x.shape[:2], 3, 2, 3), 2, 0)
        a = jax.nn.softmax(jnp.einsum("bthe,bshe->bhts", q, k))
        return jnp.einsum("bhts,bshe->bthe", a, v).reshape(x.shape) @ p["o"]

    types = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in (("qkv", (6, 18)), ("o", (6, 6)))}
    network = mcjax.trace(fused, types, jnp.ones((2, 4, 6)), check=False)
    structure = network.groups["qkv:1"].structure
    assert repr(structure) == "GroupStructure(permutation × general linear)"
    assert repr(structure.factors[1]) == "Factor(general linear: leaf 1 g | g⁻ᵀ | 1)"
    assert len(repr(network.groups["qkv:1"])) < 250
    assert "  general linear: qkv g | g⁻ᵀ | 1" in network.explain().splitlines()


def test_scales_that_were_absorbed_are_named_so():
    def scaled(p, x):
        h = x @ p["in"]
        h = h / jnp.sqrt((h**2).mean(-1, keepdims=True) + 1e-5)
        return h * p["scale"] @ p["out"]

    shapes = {"in": (3, 6), "out": (6, 2), "scale": (6,), "unused": (2,)}
    params = {n: jnp.ones(s) for n, s in shapes.items()}
    network, _ = mcjax.trace(scaled, params, jnp.ones((2, 3)), check=False).absorbed(params)
    lines = {line.split()[0]: line for line in network.explain().splitlines()}
    assert "1 everywhere: the weights beside it have taken it up" in lines["scale"]
    assert "does not use" in lines["unused"]
