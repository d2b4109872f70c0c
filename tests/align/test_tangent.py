"""All scales and matrices at once: the derivative of the action, its transpose, Newton's rate."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.align.tangent import Tangent, tangent_step
from mcjax.network.elements import apply_to, factor_of


def normalised(centred):
    """A stream that is rotated, scaled units, units of two scales, and a product of two factors."""

    def model(p, x):
        h = x @ p["in"]
        c = h - h.mean(-1, keepdims=True) if centred else h
        n = c * jax.lax.rsqrt(jnp.mean(c**2, -1, keepdims=True) + 0.1)
        gated = (n @ p["u"] * jax.nn.relu(n @ p["g"])) @ p["v"]
        return (h + jax.nn.relu(n @ p["a"]) @ p["b"] + n @ p["low"] @ p["high"] + gated) @ p["out"]

    return model


@pytest.fixture(scope="module", params=[False, True], ids=["rms", "layer"])
def made(request):
    rng, n = np.random.default_rng(0), 5
    shapes = {"in": (6, n), "a": (n, 4), "b": (4, n), "low": (n, 2), "high": (2, n), "u": (n, 3),
              "g": (n, 3), "v": (3, n), "out": (n, 6)}  # fmt: skip
    params = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
    network = mcjax.trace(normalised(request.param), params, jnp.ones((2, 6)))
    kinds = {f.kind for g in network.groups.values() for f in g.structure.factors}
    of_stream = "orthogonal fixing ones" if request.param else "orthogonal"
    assert {"positive", "general linear", of_stream} <= kinds
    return network, [np.asarray(v, np.float64) for v in jax.tree.leaves(params)]


def flat(leaves):
    return np.concatenate([v.ravel() for v in leaves])


def test_it_is_the_derivative_and_its_transpose(made):
    network, b = made
    rng, tangent = np.random.default_rng(1), Tangent(network, b)
    x, r = rng.normal(size=tangent.size), rng.normal(size=sum(v.size for v in b))
    assert np.vdot(tangent.forward(x), r) == pytest.approx(np.vdot(x, tangent.adjoint(r)))
    step = 1e-5
    ends = [flat(apply_to(network, tangent.elements(s * x), b)) for s in (step, -step)]
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), tangent.forward(x), atol=1e-7)


def test_its_elements_are_the_groups(made):
    network, b = made
    tangent = Tangent(network, b)
    found = tangent.elements(np.random.default_rng(2).normal(size=tangent.size))
    for key, element in found.items():
        kind = factor_of(network, key).kind
        if kind == "positive":
            assert (element > 0).all()
        if kind.startswith("orthogonal"):
            np.testing.assert_allclose(element @ element.T, np.eye(len(element)), atol=1e-12)
            assert np.linalg.det(element) > 0
        if kind == "orthogonal fixing ones":
            np.testing.assert_allclose(element.sum(1), 1, atol=1e-12)


def test_each_step_squares_what_is_left(made):
    network, b = made
    tangent = Tangent(network, b)
    near = tangent.elements(0.03 * np.random.default_rng(3).normal(size=tangent.size))
    a, off = apply_to(network, near, b), []
    for _ in range(4):
        off.append(np.linalg.norm(flat(a) - flat(b)) / np.linalg.norm(flat(a)))
        b = apply_to(network, tangent_step(network, a, b), b)
    assert off[0] > 1e-2
    assert off[1] < 5 * off[0] ** 2
    assert off[2] < 5 * off[1] ** 2
    assert off[3] < 1e-9  # of equations that are solved to 10⁻⁶


def test_a_network_without_curves():
    f = lambda p, x: jax.nn.gelu(x @ p["w"]) @ p["o"]
    params = {"w": jnp.ones((3, 2)), "o": jnp.ones((2, 1))}
    network = mcjax.trace(f, params, jnp.ones((2, 3)))
    leaves = [np.asarray(v, np.float64) for v in jax.tree.leaves(params)]
    assert tangent_step(network, leaves, leaves) == {}
