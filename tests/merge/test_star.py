"""Star domains: against the closed form of quadratic losses, and what training them promises."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.merge import Starlight, star
from mcjax.path import Star
from mcjax.tasks import REGRESSION
from mcjax.training import Protocol


def linear(p, x):
    return x @ p["w"]


def relu(p, x):
    return jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"]


def relu_network(seed, width=8):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (5, width), "b1": (width,), "w2": (width, 2)}
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


def relu_data(n=64):
    x = np.random.default_rng(7).normal(size=(n, 5)).astype(np.float32)
    return x, np.asarray(relu(relu_network(0), x)).argmax(-1)


def test_a_star_of_quadratic_losses_is_its_closed_form():
    """ℓ(θ) = ‖θ − c‖²: E s-derivative zero where θ*/3 + θ̄/6 = c/2, so θ* = (3c − θ̄)/2."""
    rng = np.random.default_rng(0)
    x = 3**0.5 * np.eye(3, dtype=np.float32)  # the mean of x xᵀ is the identity
    c = rng.normal(size=(3, 2)).astype(np.float32)
    networks = [{"w": jnp.asarray(c + rng.normal(size=c.shape), jnp.float32)} for _ in range(4)]
    network = mcjax.trace(linear, networks[0], x)
    how = Protocol(4000, batch=3, learning_rate=0.2, momentum=0.0, weight_decay=0.0)
    made = star(network, networks, (x, x @ c), how, key=jax.random.key(0), task=REGRESSION)
    mean = np.mean([v["w"] for v in networks], 0)
    expected = 1.5 * c - 0.5 * mean
    away = np.abs(expected - mean).max()  # where it started
    assert np.abs(made.params["w"] - expected).max() < 0.05 * away
    # Not where the loss is least, nor where the ends are.
    assert np.abs(expected - c).max() > 0.2 * away


def test_the_path_is_the_segments():
    """Uniform t is a uniform network and a uniform place on its segment."""
    center, *others = (relu_network(k) for k in range(4))
    path = Star.around(center, others)
    t = (np.arange(6000) + 0.5) / 6000
    values = jax.vmap(lambda t: path.at(t)["b1"])(jnp.asarray(t))
    rows = [np.asarray((1 - s) * center["b1"] + s * v["b1"])
            for v in others for s in (np.arange(2000) + 0.5) / 2000]  # fmt: skip
    np.testing.assert_allclose(
        np.sort(np.asarray(values), 0), np.sort(np.stack(rows), 0), atol=2e-3
    )
    for spoke, other in zip(path.spokes, others, strict=True):
        np.testing.assert_array_equal(spoke(1.0)["w1"], other["w1"])
        np.testing.assert_array_equal(spoke(0.0)["w1"], center["w1"])
    networks, weights = path.mixture(jnp.array([0.0, 0.25 / 3, 1 / 6, 0.3]))
    assert len(networks) == 4
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(weights[:3, :2], [[0, 1], [0.5, 0.5], [1, 0]], atol=1e-6)


def test_networks_are_matched_and_the_losses_on_segments_fall():
    """Copies of one network, their units in other orders: the star is joined with all."""
    a, data = relu_network(0), relu_data()
    network = mcjax.trace(relu, a, data[0])
    orders = [network.random_permutations(jax.random.key(k)) for k in range(3)]
    networks = [network.permute(p, a) for p in orders]
    how = Protocol(3, batch=16, learning_rate=0.01)
    made = star(network, networks, data, how, key=jax.random.key(1))
    for params, permutations, spoke in zip(
        networks, made.permutations, made.path.spokes, strict=True
    ):
        moved = network.permute(permutations, params)
        np.testing.assert_array_equal(moved["w1"], spoke(1.0)["w1"])
        np.testing.assert_array_equal(moved["w1"], made.path.spokes[0](1.0)["w1"])
        assert mcjax.evaluate(spoke, network, data, 5).barrier() < 1e-3
    assert made.status == "trained"
    assert "star of 3 networks" in made.summary()


def test_an_interrupted_star_goes_on_bit_for_bit(tmp_path):
    data = relu_data()
    networks = [relu_network(k) for k in range(2)]
    network = mcjax.trace(relu, networks[0], data[0])
    how = Protocol(4, batch=16, halve_every=10)
    given = network, networks, data, how
    whole = star(*given, key=jax.random.key(0))

    class StopError(Exception):
        pass

    def stop(epoch, loss):
        if epoch == 1:
            raise StopError

    with pytest.raises(StopError):
        star(*given, key=jax.random.key(0), directory=tmp_path, progress=stop)
    seen = []
    again = star(
        *given, key=jax.random.key(0), directory=tmp_path, progress=lambda e, _: seen.append(e)
    )
    assert seen == [2, 3]
    for x, y in zip(jax.tree.leaves(whole.params), jax.tree.leaves(again.params), strict=True):
        np.testing.assert_array_equal(x, y)
    with pytest.raises(ValueError, match=r"of another run.*path"):
        star(network, networks[::-1], data, how, key=jax.random.key(0), directory=tmp_path)
    with pytest.raises(ValueError, match=r"of another run.*renew"):
        star(*given, key=jax.random.key(0), directory=tmp_path, align=False,
             start=networks[0])  # fmt: skip


def test_networks_are_matched_anew_before_every_epoch():
    """Where θ* starts as one network, the others come in its order, whatever it was."""
    data = relu_data()
    network = mcjax.trace(relu, relu_network(0), data[0])
    swapped = network.random_permutations(jax.random.key(3))
    start = network.permute(swapped, relu_network(0))
    still = Protocol(1, batch=16, learning_rate=0.0)
    made = star(network, [relu_network(0)], data, still, key=jax.random.key(0), start=start)
    np.testing.assert_array_equal(made.path.spokes[0](1.0)["w1"], start["w1"])
    kept = star(
        network, [relu_network(0)], data, still, key=jax.random.key(0), start=start, align=False
    )
    np.testing.assert_array_equal(kept.path.spokes[0](1.0)["w1"], relu_network(0)["w1"])


def test_statistics_of_batch_normalisation_are_estimated():
    def f(p, x):
        h = x @ p["w"]
        h = (h - p["mean"]) * (p["scale"] / jnp.sqrt(p["var"] + 1e-5))
        return jax.nn.relu(h) @ p["v"]

    def one(seed):
        rng = np.random.default_rng(seed)
        shapes = {"w": (5, 6), "v": (6, 2), "scale": (6,)}
        made = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
        return {**made, "mean": jnp.zeros(6), "var": jnp.ones(6)}

    (x, y), networks = relu_data(), [one(0), one(1)]
    network = mcjax.trace(f, networks[0], x)
    made = star(network, networks, (x, y), Protocol(1, batch=16), key=jax.random.key(0))
    h = np.asarray(x @ made.params["w"], np.float64)
    np.testing.assert_allclose(made.params["mean"], h.mean(0), atol=1e-5)
    np.testing.assert_allclose(made.params["var"], h.var(0), rtol=1e-2)


def test_as_a_merging_method():
    data = relu_data()
    networks = [relu_network(k) for k in range(2)]
    network = mcjax.trace(relu, networks[0], data[0])
    method = Starlight(Protocol(2, batch=16))
    x, y = data
    mcjax.testing.check_merging(method, network, networks, x=x, y=y)
    made = mcjax.merge.merge(network, networks, method, x=x, y=y)
    assert made.metadata["label"] == "Star"
    halves = [mcjax.merge.Each([v[:32], v[32:]]) for v in data]
    again = mcjax.merge.merge(network, networks, method, x=halves[0], y=halves[1])
    np.testing.assert_array_equal(made.params["w1"], again.params["w1"])
    with pytest.raises(ValueError, match="needs labels"):
        mcjax.merge.merge(network, networks, method, x=x)


@pytest.mark.parametrize(
    ("networks", "options", "message"),
    [([], {}, "networks: at least 1 network needed"),
     ([{"w1": 1}], {}, "networks"),
     ([relu_network(0)], {"start": {"w1": jnp.ones(2)}}, "start"),
     ([relu_network(0)], {"key": 3}, "key")],
)  # fmt: skip
def test_mistakes_are_said(networks, options, message):
    data = relu_data()
    network = mcjax.trace(relu, relu_network(0), data[0])
    given = {"key": jax.random.key(0), **options}
    with pytest.raises(ValueError, match=message):
        star(network, networks, data, Protocol(1, batch=16), **given)
