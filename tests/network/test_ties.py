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


def test_a_masked_attention_before_the_router_leaves_the_experts_free():
    """A mask of −10⁹ goes through a softmax, rotations by 10⁴ through a cosine."""

    def apply_fn(p, x):
        h = x @ p["in"]
        angle = jnp.arange(4)[:, None] / 1e4 ** (jnp.arange(8) / 8.0)
        scores = jnp.einsum("btd,bsd->bts", h * jnp.cos(angle), h @ p["k"])
        scores = jnp.where(jnp.tril(jnp.ones((4, 4), bool)), scores, -1e9)
        h = h + jnp.einsum("bts,bsd->btd", jax.nn.softmax(scores), h @ p["v"]) @ p["o"]
        gate, which = jax.lax.top_k(jax.nn.softmax(h @ p["r"]), 2)
        weights = (jax.nn.one_hot(which, 6) * gate[..., None]).sum(-2)
        y = jnp.einsum("bte,ehd,beth->btd", weights, p["down"], up(p, h))
        return (h + y).mean(1) @ p["out"]

    def up(p, h):
        return jax.nn.relu(jnp.einsum("btd,edh->beth", h, p["up"]))

    shapes = {"in": (5, 8), "k": (8, 8), "v": (8, 8), "o": (8, 8), "r": (8, 6), "out": (8, 3)}
    params = normal(shapes | {"up": (6, 8, 7), "down": (6, 7, 8)})
    network = mcjax.trace(apply_fn, params, normal({"x": (3, 4, 5)}, 1)["x"])
    assert sorted(g.shape for g in network.groups.values() if 6 in g.shape) == [(6,), (6, 7)]


def nearest(distance):
    """Whether codes of a book, of which the nearest is taken, are found to be interchangeable."""

    def apply_fn(p, x):
        h = jnp.tanh(x @ p["in"]) @ p["h"]
        return p["book"][:, jnp.argmin(distance(h, p["book"]), 1)].T @ p["out"]

    params = normal({"in": (5, 8), "h": (8, 7), "book": (7, 6), "out": (7, 3)})
    network = mcjax.trace(apply_fn, params, normal({"x": (40, 5)}, 1)["x"])  # verified
    return (6,) in [g.shape for g in network.groups.values()]


# x of (n, d), codes of (d, k); the norm of x is the same for all codes.
DISTANCES = {
    "|x|² − 2 x·e + |e|²": lambda x, e: (x**2).sum(1)[:, None] - 2 * x @ e + (e**2).sum(0),
    "|e|² − x·e": lambda x, e: jnp.square(e).sum(0)[None] - x @ e,
    "|e|² − x·e, negated twice": lambda x, e: -(x @ e - jnp.square(e).sum(0)),
    "|e|² |x|² + x·e": lambda x, e: (e**2).sum(0) * (x**2).sum(1)[:, None] + x @ e,
    "x·e − |e|₁, where x has parameters": lambda x, e: x @ e - jnp.abs(e).sum(0),
}
CANCELLED = {
    "x·e − x·e": lambda x, e: x @ e - x @ e,
    "0 |e|² + x·e − x·e": lambda x, e: 0 * (e**2).sum(0) + (x @ e - x @ e),
    "|e|² rounded, without x": lambda x, e: jnp.round((e**2).sum(0)) + 0 * (x @ e),
    "x·e beside 10³⁰ |e|²": lambda x, e: x @ e + 1e30 * (e**2).sum(0),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_codes_of_a_book_are_free_by_degrees(name):
    """What is added is of another degree in a parameter, so it cancels no difference of codes."""
    assert nearest(DISTANCES[name])


@pytest.mark.parametrize("name", CANCELLED)
def test_codes_at_equal_distances_are_fixed(name):
    assert not nearest(CANCELLED[name])


SQUARES = {
    "a product": lambda h: h * h,
    "a square": jnp.square,
    "an integer's power": lambda h: h**2,
    "a float's power": lambda h: jnp.power(h, jnp.float32(2)),
}


def mixtures(square, add=lambda h, y: h + y):
    """Whether the experts of both of two layers, read after an RMSNorm, are interchangeable."""

    def layer(p, h):
        z = h * jax.lax.rsqrt(square(h).mean(-1, keepdims=True) + 1e-6) * p["s"]
        gate, which = jax.lax.top_k(jax.nn.softmax(z @ p["r"]), 2)
        weights = (jax.nn.one_hot(which, 6) * gate[..., None]).sum(-2)
        each = jnp.einsum("beh,ehd->bed", jax.nn.relu(jnp.einsum("bd,edh->beh", z, p["up"])),
                          p["down"])  # fmt: skip
        return add(h, (each * weights[..., None]).sum(1))

    def apply_fn(p, x):
        return layer(p["two"], layer(p["one"], x @ p["in"])) @ p["out"]

    one = {"s": (8,), "r": (8, 6), "up": (6, 8, 7), "down": (6, 7, 8)}
    params = normal({"in": (5, 8), "out": (8, 3)})
    params |= {"one": normal(one, 1), "two": normal(one, 2)}
    network = mcjax.trace(apply_fn, params, normal({"x": (40, 5)}, 3)["x"])  # verified
    return [g.shape for g in network.groups.values()].count((6,))


@pytest.mark.parametrize("square", SQUARES.values(), ids=SQUARES)
def test_experts_behind_a_norm_and_behind_experts_are_free(square):
    assert mixtures(square) == 2


def test_experts_behind_what_may_vanish_are_fixed():
    """The first layer's outputs alone, all zero where its ReLUs are, tie the second's experts."""
    assert mixtures(jnp.square, lambda h, y: y) == 1
    assert mixtures(lambda h: h * jnp.abs(h)) == 0  # a mean that may be below zero
    assert mixtures(jnp.square, lambda h, y: h + y * 1e30) == 1


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


@pytest.mark.parametrize("asked_inside", [False, True])
def test_what_rested_on_a_loops_carry_is_not_remembered_once_the_carry_is_known(asked_inside):
    """A closed gate makes the carry, and what the loop shows of it, zero from the second turn on;
    whether the carry vanishes is asked in the loop first, by another router."""

    def apply_fn(p, x):
        gate = jax.nn.relu(x @ p["gate"])[:, None]

        def turn(h, _):
            seen = jnp.tanh(h)
            inside = p["e"][jnp.argmax(h @ p["r"], -1)] if asked_inside else h
            return seen * gate, (seen, inside)

        _, (seen, inside) = jax.lax.scan(turn, x @ p["in"], None, length=3)
        return inside.sum() + p["f"][jnp.argmax(seen @ p["s"], -1)].sum(0)

    shapes = {"gate": (4,), "in": (4, 2), "r": (2, 5), "e": (5, 3), "s": (2, 6), "f": (6, 3)}
    params, x = normal(shapes), normal({"x": (40, 4)}, 1)["x"]
    network = mcjax.trace(apply_fn, params, x, check=False)
    assert not {"r", "s"} & set(network.groups)
    moved = network.permute(network.random_permutations(jax.random.key(0)), params)
    np.testing.assert_allclose(apply_fn(moved, x), apply_fn(params, x), rtol=1e-3, atol=1e-3)
