"""Networks drawn from neurons: means and deviations that are known, and planted distributions."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import mcjax
from mcjax.neurons import Distribution, Empirical, Flow, Gaussian, Mixture, draw_network

X = np.random.default_rng(9).normal(size=(7, 4)).astype(np.float32)
FAMILIES = (Empirical(), Gaussian(), Mixture(4))


def model(p, x):
    h = jax.nn.relu(x @ p["w1"] + p["b1"])
    return jax.nn.relu(h @ p["w2"] + p["b2"]) @ p["w3"]


def shallow(p, x):
    return jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w3"]


def parameters(seed, *widths):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (4, widths[0]), "b1": (widths[0],), "w3": (widths[-1], 3)}
    if len(widths) > 1:
        shapes |= {"w2": widths, "b2": (widths[1],)}
    return {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}


def of_widths(f, *widths):
    return mcjax.trace(f, parameters(0, *widths), X)


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_moments_of_what_is_drawn(family):
    rng = np.random.default_rng(0)
    centres = np.array([[5.0, 0, 0], [0, 5, 0], [0, 0, 5], [0, 0, -5]])
    rows = centres[rng.integers(4, size=60)] + 0.3 * rng.normal(size=(60, 3))
    drawn = family.draw(rows, 40_000, jax.random.key(1))
    np.testing.assert_allclose(drawn.mean(0), rows.mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T, bias=True), np.cov(rows.T, bias=True), atol=0.25)
    near = (np.linalg.norm(drawn[:, None] - centres, axis=-1).min(1) < 1.5).mean()
    assert near > 0.99 if family != Gaussian() else near < 0.5  # a mixture keeps the clusters


def test_few_neurons_stay_in_their_span():
    rows = np.random.default_rng(2).normal(size=(3, 50))
    for family in (*FAMILIES, Mixture(40, 40)):
        drawn = family.draw(rows, 20, jax.random.key(0)) - rows.mean(0)
        left = drawn - drawn @ np.linalg.pinv(rows - rows.mean(0)) @ (rows - rows.mean(0))
        assert np.abs(left).max() < 1e-10


def test_the_mean_over_draws_is_the_network_and_deviations_fall_as_the_root():
    params, network = parameters(3, 12), of_widths(shallow, 12)
    exact, spread = np.asarray(shallow(params, X)), {}
    units = np.maximum(X @ params["w1"] + params["b1"], 0)[..., None] * params["w3"]
    for m in (8, 128):
        wide = of_widths(shallow, m)
        drawn = np.stack([
            shallow(draw_network(network, params, wide, Empirical(), key=jax.random.key(s)), X)
            for s in range(300)
        ])  # fmt: skip
        spread[m] = drawn.var(0)
        np.testing.assert_allclose(spread[m], 144 / m * units.var(1), rtol=0.5)
        error = np.abs(drawn.mean(0) - exact)
        assert (error < 4.5 * np.sqrt(spread[m] / 300)).all()


def test_copies_of_one_unit_are_drawn_exactly_through_all_layers():
    one = parameters(4, 1, 1)
    params = {k: np.repeat(v, 6, -1) if k in ("w1", "b1", "w2", "b2") else v
              for k, v in one.items()}  # fmt: skip
    params = {
        **params,
        "w2": np.repeat(params["w2"], 6, 0) / 6,
        "w3": np.repeat(one["w3"], 6, 0) / 6,
    }
    network, wide = of_widths(model, 6, 6), of_widths(model, 9, 4)
    for family in FAMILIES:
        drawn = draw_network(network, params, wide, family, key=jax.random.key(0))
        assert jax.tree.map(np.shape, drawn)["w2"] == (9, 4)
        assert {v.dtype for v in jax.tree.leaves(drawn)} == {np.dtype(np.float32)}
        np.testing.assert_allclose(model(drawn, X), model(one, X), rtol=1e-4, atol=1e-5)


def test_channels_before_a_flattening():
    def f(p, x):
        h = jax.nn.relu(jax.lax.conv(x, p["k"], (1, 1), "SAME"))
        return h.reshape(len(h), -1) @ p["w"]

    rng = np.random.default_rng(5)
    x = rng.normal(size=(3, 2, 4, 4)).astype(np.float32)
    kernel = rng.normal(size=(1, 2, 3, 3)).astype(np.float32)
    read = rng.normal(size=(1, 16, 5)).astype(np.float32)

    def copies(n):
        return {"k": np.repeat(kernel, n, 0), "w": np.repeat(read / n, n, 0).reshape(-1, 5)}

    network, wide = (mcjax.trace(f, copies(n), x) for n in (3, 7))
    drawn = draw_network(network, copies(3), wide, Gaussian(), key=jax.random.key(0))
    np.testing.assert_allclose(f(drawn, x), f(copies(7), x), rtol=1e-4, atol=1e-5)


def test_a_flow_finds_where_neurons_are():
    rng = np.random.default_rng(6)
    rows = np.exp(rng.normal(size=(400, 2))) * [1, 3] + [0, 50]
    brief = mcjax.flows.AdamProtocol(300, 128, 1e-2)
    small = mcjax.flows.Architecture("realnvp", blocks=4, width=16, depth=1)
    drawn = Flow(small, brief).draw(rows, 4000, jax.random.key(0))
    np.testing.assert_allclose(np.median(drawn, 0), np.median(rows, 0), rtol=0.15)
    network, wide = of_widths(shallow, 5), of_widths(shallow, 9)
    flow = Flow(small, mcjax.flows.AdamProtocol(5, 8))
    made = draw_network(network, parameters(0, 5), wide, flow, key=jax.random.key(0))
    assert made["w1"].shape == (4, 9)


def test_the_same_key_is_the_same_network_and_a_distribution_of_ones_own():
    class Doubled(Distribution):
        def draw(self, rows, count, key):
            return np.concatenate([rows, rows])

    params, network, wide = parameters(7, 5), of_widths(shallow, 5), of_widths(shallow, 10)
    doubled = draw_network(network, params, wide, Doubled(), key=jax.random.key(0))
    np.testing.assert_allclose(shallow(doubled, X), shallow(params, X), rtol=1e-4, atol=1e-5)
    first, again, other = (
        draw_network(network, params, wide, key=jax.random.key(k))["w1"] for k in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_mistakes():
    params, network, key = parameters(0, 5), of_widths(shallow, 5), jax.random.key(0)

    def normalised(p, x):
        h = (x @ p["w"] - p["mean"]) / (p["var"] + 1e-5) ** 0.5
        return jax.nn.relu(h) @ p["v"]

    def square(p, x):
        h = jax.nn.relu(x @ p["u"])
        return jax.nn.relu(h @ p["w"] + h) @ p["v"]

    ones = np.ones
    bn = {"w": ones((4, 5)), "mean": ones(5), "var": ones(5), "v": ones((5, 2))}
    twice = {"u": ones((4, 5)), "w": ones((5, 5)), "v": ones((5, 2))}
    of_bn, of_twice = mcjax.trace(normalised, bn, X), mcjax.trace(square, twice, X)
    with pytest.raises(ValueError, match="leaf 'mean' holds statistics of batch normalisation"):
        draw_network(of_bn, bn, of_bn, key=key)
    with pytest.raises(ValueError, match="stands twice on leaf 'w'"):
        draw_network(of_twice, twice, of_twice, key=key)
    with pytest.raises(ValueError, match="distribution must be a mcjax"):
        draw_network(network, params, network, "gaussian", key=key)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="key must be a random key"):
        draw_network(network, params, network, key=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="w1"):
        draw_network(network, {**params, "w1": params["w1"] * np.nan}, network, key=key)
    for name in ("components", "coordinates"):
        with pytest.raises(ValueError, match=f"{name} must be a positive integer"):
            Mixture(**{name: 0})
