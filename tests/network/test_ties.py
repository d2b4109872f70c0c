"""Ties that a router meets: the first of the equal experts is told by its place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax

SHAPES = {"in": (5, 8), "r": (8, 6), "e": (6, 8), "out": (8, 3)}


def normal(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


def experts(logits, shapes=SHAPES, index_dtype=jnp.int32):
    """Whether the experts of a router are found to be interchangeable."""

    def apply_fn(p, x):
        h = jnp.tanh(x["x"] @ p["in"])
        chosen = jax.lax.argmax(logits(h @ p["r"], x["mask"]), 1, index_dtype)
        return (h * p["e"][chosen]) @ p["out"]

    x = {"x": normal({"x": (40, 5)}, 1)["x"], "mask": jnp.arange(40) % 3 > 0}
    x["mask"] = x["mask"].astype(jnp.float32)
    network = mcjax.trace(apply_fn, normal(shapes), x, check=False)
    return (shapes["r"][1],) in [g.shape for g in network.groups.values()]


TIED = {
    "bfloat16": lambda z, m: z.astype(jnp.bfloat16),
    "float8, widened again": lambda z, m: z.astype(jnp.float8_e4m3fn).astype(jnp.float32),
    "a large mask added": lambda z, m: z + ((m - 1) * 1e30)[:, None],
    "multiplied by a mask": lambda z, m: z * m[:, None],
}


@pytest.mark.parametrize("name", TIED)
def test_tied_experts_are_fixed(name):
    assert not experts(TIED[name])


@pytest.mark.parametrize("logits", [lambda z, m: z, lambda z, m: jax.nn.softmax(z)])
def test_experts_without_ties_are_free(logits):
    assert experts(logits)


@pytest.mark.parametrize(("n", "free"), [(100, True), (300, False)])
def test_an_index_that_its_type_does_not_hold_is_a_number(n, free):
    shapes = SHAPES | {"r": (8, n), "e": (n, 8)}
    assert experts(lambda z, m: z, shapes, jnp.uint8) is free


@pytest.mark.parametrize(
    ("padding", "dilation", "free"),
    [("SAME", 1, True), (((2, 2), (2, 2)), 1, True), (((3, 3), (3, 3)), 1, False),
     (((2, 2), (2, 2)), 3, True), (((2, 2), (2, 2)), 4, False)],
)  # fmt: skip
def test_windows_that_hold_only_zeros_are_ties(padding, dilation, free):
    def apply_fn(p, x):
        y = jax.lax.conv_general_dilated(x, p["w"], (1, 1), padding, (dilation, dilation))
        return p["code"][jnp.argmax(y, 1)].sum((1, 2)) @ p["out"]

    params = normal({"w": (6, 3, 3, 3), "code": (6, 4), "out": (4, 3)})
    x = normal({"x": (2, 3, 5, 5)}, 1)["x"]
    network = mcjax.trace(apply_fn, params, x)  # verified
    assert ((6,) in [g.shape for g in network.groups.values()]) is free


def test_what_an_inner_scan_carries_is_observed():
    def apply_fn(p, x):
        def inner(h, _):
            return jnp.tanh(h @ p["w"]), None

        def outer(h, _):
            return jax.lax.scan(inner, h, None, length=2)[0], None

        return jax.lax.scan(outer, jnp.tanh(x @ p["in"]), None, length=2)[0] @ p["out"]

    a = normal({"in": (5, 8), "w": (8, 8), "out": (8, 3)})
    x = normal({"x": (40, 5)}, 1)["x"]
    network = mcjax.trace(apply_fn, a, x)
    b = network.permute(network.random_permutations(jax.random.key(0)), a)
    found = network.permute(mcjax.align.match_activations(network, a, b, x).permutations, b)
    jax.tree.map(np.testing.assert_array_equal, found, a)
