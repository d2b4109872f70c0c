"""Models in training mode, and arguments in the wrong order, are said."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import pytest

import mcjax

PARAMS = {"w": jnp.ones((3, 5)), "mean": jnp.zeros(5), "v": jnp.ones((5, 4))}
X = jnp.ones((7, 3))


def hidden(p, x):
    return jax.nn.relu(x @ p["w"] - p["mean"])


def test_draws_with_a_key_of_its_own():
    key = jax.random.key(0)
    drop = lambda k, h: h * jax.random.bernoulli(k, 0.5, h.shape)
    with pytest.warns(UserWarning, match=r"draws random numbers \(1 times\).*deterministic=True"):
        mcjax.trace(lambda p, x: drop(key, hidden(p, x)) @ p["v"], PARAMS, X, check=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f = lambda p, x: drop(x["key"], hidden(p, x["x"])) @ p["v"]
        mcjax.trace(f, PARAMS, {"x": X, "key": key}, check=False)


def test_statistics_that_are_returned():
    def f(p, x):
        h = hidden(p, x)
        return h @ p["v"], {"mean": 0.9 * p["mean"] + 0.1 * h.mean(0)}

    with pytest.warns(UserWarning, match=r"no unit group.*'mean'.*evaluation mode"):
        assert not mcjax.trace(f, PARAMS, X).groups


NORMALISED = {"first": {"kernel": jnp.ones((3, 5))}, "scale": jnp.ones(5), "v": jnp.ones((5, 4))}


def by_variance(h, p, axes=0):
    return p["scale"] * (h - h.mean(axes, keepdims=True)) / jnp.sqrt(h.var(axes, keepdims=True) + 1)


def by_square(h, p):
    """flax's way: E[h²] - E[h]²."""
    mean = h.mean(0)
    return (h - mean) * (jax.lax.rsqrt((h * h).mean(0) - mean**2 + 1) * p["scale"])


def over_an_axis(h, p):
    """equinox's way: means over the axis of a vmap."""

    def one(h):
        mean = jax.lax.pmean(h, "batch")
        return (h - mean) / jnp.sqrt(jax.lax.pmean((h - mean) ** 2, "batch") + 1) * p["scale"]

    return jax.vmap(one, axis_name="batch")(h)


def in_a_loop(h, p):
    return jax.lax.scan(lambda h, s: (by_variance(h, {"scale": s}), None), h, p["scale"][None])[0]


@pytest.mark.parametrize("norm", [by_variance, by_square, over_an_axis, in_a_loop])
def test_normalised_by_the_batch(norm):
    f = lambda p, x: jax.nn.relu(norm(x @ p["first"]["kernel"], p)) @ p["v"]
    with pytest.warns(
        UserWarning, match="mean and variance after 'first'.*evaluation mode"
    ) as seen:
        network = mcjax.trace(f, NORMALISED, X, check=False)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    assert "batch's own mean and variance after 'first'" in network.explain()


def test_over_an_axis_of_vmap_is_over_that_axis():
    """Means, extremes and sums by name: the groups of the same model without names."""

    def model(norm, extreme):
        def f(p, x):
            h = jax.nn.relu(norm(x @ p["first"]["kernel"], p))
            return (h + extreme(h)) @ p["v"]

        return f

    def named(h):
        return jax.vmap(
            lambda h: jax.lax.pmax(h, "batch") - jax.lax.pmin(h, "batch"), axis_name="batch"
        )(h)

    plain = model(by_variance, lambda h: h.max(0) - h.min(0)), model(over_an_axis, named)
    networks = []
    for f in plain:
        with pytest.warns(UserWarning, match="mean and variance after 'first'"):
            networks.append(mcjax.trace(f, NORMALISED, X))
    shapes = [[(g.shape, g.symmetry) for g in n.groups.values()] for n in networks]
    assert shapes[0] == shapes[1] == [((5,), "signed permutation")]


def test_inputs_normalised_by_the_batch():
    f = lambda p, x: by_variance(x, {"scale": 1.0}) @ p["first"]["kernel"]
    with pytest.warns(UserWarning, match="mean and variance after the inputs"):
        mcjax.trace(f, NORMALISED, X, check=False)


@pytest.mark.parametrize(
    "norm",
    [
        lambda h, p: by_variance(h, p, 1),
        lambda h, p: by_variance(h.reshape(-1, 1, 5), p, (1, 2)).reshape(-1, 5),
        lambda h, p: (h - p["scale"]) / jnp.sqrt(p["scale"] ** 2 + 1),
        lambda h, p: h / h.shape[0] ** 0.5,
    ],
)
def test_other_normalisations_say_nothing(norm):
    f = lambda p, x: norm(x @ p["first"]["kernel"], p) @ p["v"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = mcjax.trace(f, NORMALISED, X, check=False)
    assert "batch's own" not in network.explain()


def test_a_mean_of_the_batch_that_is_an_output_says_nothing():
    """A loss beside the outputs, as mixtures of experts have it: no example depends on it."""
    f = lambda p, x: ((h := hidden(p, x)) @ p["v"], jnp.sqrt((h.mean(0) ** 2).sum()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mcjax.trace(f, PARAMS, X, check=False)


def test_arguments_that_are_swapped():
    f = lambda p, x: hidden(p, x) @ p["v"]
    with pytest.raises(ValueError, match="batch") as caught:
        mcjax.trace(f, X, PARAMS)
    assert "order is mcjax.trace(apply_fn, params, x)" in caught.value.__notes__[-1]


def test_a_function_of_a_single_example():
    f = lambda p, x: hidden(p, x) @ p["v"] + jnp.zeros(X.shape[1:]) @ jnp.ones(x.shape)
    with pytest.raises(TypeError) as caught:
        mcjax.trace(f, PARAMS, X)
    assert "jax.vmap(apply_fn, in_axes=(None, 0))" in caught.value.__notes__[-1]
    mcjax.trace(jax.vmap(f, in_axes=(None, 0)), PARAMS, X, check=False)
