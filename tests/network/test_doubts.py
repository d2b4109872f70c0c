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
