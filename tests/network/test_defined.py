"""NaN and infinity make ties, as masks do: where they may arise, a router's experts are fixed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.network.ties import Ties

SHAPES = {"in": (5, 8), "r": (8, 6), "s": (8, 6), "g": (8,), "e": (6, 8), "out": (8, 3)}


def normal(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


def free(logits, first=jnp.argmax):
    """Whether experts, of which the first with the largest (h, parameters, mask) → logits is taken,
    are found to be interchangeable; those that are found are run, mask included."""

    def apply_fn(p, x):
        h = jnp.tanh(x["x"] @ p["in"])
        chosen = first(logits(h, p, x["mask"][:, None]), 1)
        return (h * p["e"][chosen]) @ p["out"]

    params, data = normal(SHAPES), normal({"x": (40, 5)}, 1)
    data["mask"] = (jnp.arange(40) % 3 > 0).astype(jnp.float32)
    network = mcjax.trace(apply_fn, params, data)  # verified
    if (6,) not in [g.shape for g in network.groups.values()]:
        return False
    moved = network.permute(network.random_permutations(jax.random.key(0)), params)
    want, found = apply_fn(params, data), apply_fn(moved, data)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)
    return True


def norm(h):
    return jnp.linalg.norm(h, axis=-1, keepdims=True)


def gates(h, p):
    largest = jax.lax.top_k(jax.nn.softmax(h), 2)[0]
    return largest / largest.sum(-1, keepdims=True)


UNDEFINED = {
    "a root": lambda h, p, m: jnp.sqrt(h @ p["r"]),
    "a logarithm": lambda h, p, m: jnp.log(h @ p["r"]),
    "a logarithm for all": lambda h, p, m: h @ p["r"] + jnp.log(jax.nn.relu(h @ p["g"])[:, None]),
    "a logarithm of another degree": lambda h, p, m: h @ p["r"] - jnp.log(jax.nn.relu(h @ p["s"])),
    "a quotient": lambda h, p, m: h @ p["r"] + 1 / jax.nn.relu(h @ p["s"]),
    "a negative power": lambda h, p, m: h @ p["r"] + jax.nn.relu(h @ p["s"]) ** -1,
    "a power": lambda h, p, m: h @ p["r"] + (h @ p["s"]) ** 0.5,
    "behind a weight": lambda h, p, m: h @ p["r"] + jnp.log(jax.nn.relu(h)) @ p["s"],
    "at most infinity": lambda h, p, m: jnp.maximum(h @ p["r"], jnp.inf),
    "times infinity": lambda h, p, m: (h @ p["r"]) * jnp.inf,
}  # fmt: skip
MASKED = {
    "truncated": lambda h, p, m: (h @ p["r"]) * (h @ p["g"]).astype(int).astype(h.dtype)[:, None],
    "positive, truncated": lambda h, p, m: (
        (h @ p["r"]) * jnp.exp(h @ p["g"]).astype(int).astype(h.dtype)[:, None]
    ),
    "1 − mask": lambda h, p, m: (h @ p["r"]) * (1 - m),
    "mask/2": lambda h, p, m: (h @ p["r"]) * (m / 2),
    "mask²": lambda h, p, m: (h @ p["r"]) * m**2,
    "before the router": lambda h, p, m: (h * m) @ p["r"],
    "the other way, before the router": lambda h, p, m: (h * (1 - m)) @ p["r"],
}
DEFINED = {
    "log softmax": lambda h, p, m: jnp.log(jax.nn.softmax(h @ p["r"])),
    "divided by the norm": lambda h, p, m: (h / norm(h)) @ p["r"],
    "divided by the norm, at least": lambda h, p, m: (h / jnp.maximum(norm(h), 1e-12)) @ p["r"],
    "a variance that is a parameter": lambda h, p, m: (h / jnp.sqrt(p["g"] ** 2 + 1e-5)) @ p["r"],
    "gates over their sum": lambda h, p, m: h @ p["r"] + gates(h, p) @ p["s"][:2],
    "a temperature": lambda h, p, m: (h @ p["r"]) / p["g"][0],
    "a mask scales a bias": lambda h, p, m: h @ p["r"] + m * p["g"][:6],
    "1 + a power of what is positive": lambda h, p, m: h @ p["r"] + (1 + norm(h)) ** -0.5,
}


@pytest.mark.parametrize("name", UNDEFINED)
def test_experts_are_fixed_where_nan_or_infinity_may_arise(name):
    assert not free(UNDEFINED[name])
    assert not free(UNDEFINED[name], jnp.argmin)


@pytest.mark.parametrize("name", MASKED)
def test_experts_are_fixed_where_all_logits_may_vanish(name):
    assert not free(MASKED[name])


@pytest.mark.parametrize("name", DEFINED)
def test_experts_are_free_where_all_is_in_its_domain(name):
    assert free(DEFINED[name])


@pytest.mark.parametrize("name", MASKED)
def test_verification_sees_the_zeros_of_a_mask(monkeypatch, name):
    """Where the rules took masks for numbers that are never zero."""
    for rule in ("live", "_scales"):
        monkeypatch.setattr(Ties, rule, lambda self, value: True)
    with pytest.raises(RuntimeError, match="do not leave the function unchanged"):
        free(MASKED[name])


def test_a_mask_outside_a_scan_is_one_in_it():
    def logits(h, p, m):
        return jax.lax.scan(lambda c, z: (c, z @ p["r"] * m), 0.0, h[None])[1][0]

    assert not free(logits)


def deep(layers, inside):
    """A residual network before a router, deeper than Python's stack."""

    def apply_fn(p, x):
        h = x["x"] @ p["in"]
        for k in range(layers):
            h = h + inside(h) @ p[f"s{k}"]
        return p["e"][jnp.argmax(h @ p["r"], -1)] @ p["out"]

    shapes = SHAPES | {f"s{k}": (8, 8) for k in range(layers)}
    return mcjax.trace(apply_fn, normal(shapes), normal({"x": (40, 5)}, 1), check=False)


@pytest.mark.parametrize("inside", [lambda h: h, jnp.tanh], ids=["linear", "tanh"])
def test_a_router_at_any_depth(inside):
    shapes = [[g.shape for g in deep(n, inside).groups.values()] for n in (2, 300)]
    assert shapes[0] == shapes[1]
    assert (6,) in shapes[0]


def test_a_sum_that_has_its_terms_often():
    """2^200 times, and as often taken away."""

    def logits(h, p, m):
        z = h @ p["r"]
        for _ in range(200):
            z = z + (z - p["g"][:6])
        return z

    free(logits)  # in a moment
