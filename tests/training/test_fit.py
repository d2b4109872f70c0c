"""The driver of trainable paths."""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mcjax
from mcjax.path import Bezier, PolygonalChain
from mcjax.training import Fit


def point(v):
    return {"w": jnp.asarray(v, jnp.float32)}


def well(p, batch):
    """A ring: zero at distance one from the origin, high at the origin between the ends."""
    return jnp.mean((jnp.sum(p["w"] ** 2) - 1) ** 2 + 0 * batch)


def start():
    return Bezier([point([1, 0]), point([0.0, 0.1]), point([-1, 0])])


def test_a_curve_finds_its_way_round_a_barrier():
    fitted = mcjax.fit(
        start(), well, jnp.zeros((800, 1)), optax.adam(0.05), key=jax.random.key(0), samples=4
    )
    losses = [float(well(fitted.path(t), 0)) for t in np.linspace(0, 1, 21)]
    before = [float(well(start()(t), 0)) for t in np.linspace(0, 1, 21)]
    assert max(before) > 0.9
    assert max(losses) < 0.15
    assert fitted.finite
    first, last = fitted.losses[:10].mean(), fitted.losses[-10:].mean()
    assert fitted.summary() == f"800 steps, loss {first:.4f} -> {last:.4f}"


def test_iterable_and_stacked_batches_are_the_same():
    batches = jax.random.normal(jax.random.key(1), (130, 3))
    loss = lambda p, batch: jnp.sum((p["w"] - batch.mean()) ** 2)
    args = dict(optimizer=optax.sgd(0.01), key=jax.random.key(0))
    whole = mcjax.fit(start(), loss, batches, **args)
    parts = mcjax.fit(start(), loss, (b for b in np.asarray(batches)), **args)
    np.testing.assert_allclose(whole.losses, parts.losses, rtol=1e-5)
    assert whole.losses.shape == parts.losses.shape == (130,)


def test_large_stacks_on_the_host_are_taken_in_parts(monkeypatch):
    """The last part, which is moved back to be full, takes no batch twice."""
    batches = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    loss = lambda p, batch: jnp.sum((p["w"] - batch.mean()) ** 2)
    args = dict(optimizer=optax.sgd(0.01), key=jax.random.key(0))
    whole = mcjax.fit(start(), loss, batches, **args)
    module = importlib.import_module("mcjax.training.fit")
    monkeypatch.setattr(module, "BLOCK_BYTES", 48)
    parts = mcjax.fit(start(), loss, batches, **args)
    np.testing.assert_allclose(whole.losses, parts.losses, rtol=1e-6)


def test_going_on_is_the_same_as_not_stopping():
    batches = jax.random.normal(jax.random.key(1), (60, 3))
    loss = lambda p, batch: jnp.sum((p["w"] - batch.mean()) ** 2)
    optimizer, key = optax.adam(0.01), jax.random.key(0)
    whole = mcjax.fit(start(), loss, batches, optimizer, key=key)
    first = mcjax.fit(start(), loss, batches[:25], optimizer, key=key)
    second = mcjax.fit(first.path, loss, batches[25:], optimizer, key=key, state=first.state)
    jax.tree.map(np.testing.assert_array_equal, second.path, whole.path)


def test_gradient_of_one_step_against_a_closed_form():
    """One SGD step of a chain: dθ(t)/d bend = hat(t), so the update is known."""
    path = PolygonalChain([point([0.0]), point([0.0]), point([0.0])])
    loss = lambda p, batch: jnp.sum(p["w"]) + 0 * jnp.sum(batch)
    key = jax.random.key(3)
    t = float(jax.random.uniform(jax.random.split(key)[1], (1,))[0])
    fitted = mcjax.fit(path, loss, jnp.zeros((1, 1)), optax.sgd(1.0), key=key)
    assert float(fitted.path.points[1]["w"][0]) == pytest.approx(-(1 - abs(2 * t - 1)), rel=1e-5)


def test_divergence_is_said():
    explode = lambda p, batch: jnp.sum(p["w"] ** 2) * 1e30
    with pytest.warns(UserWarning, match="not finite from step"):
        fitted = mcjax.fit(
            start(), explode, jnp.zeros((30, 1)), optax.sgd(1e10), key=jax.random.key(0)
        )
    assert not fitted.finite
    assert "; not finite from step " in fitted.summary()


@pytest.mark.parametrize(
    ("losses", "text"),
    [([3.0], "1 epoch, loss 3.0000"), ([4.0, 2.0], "2 epochs, loss 4.0000 -> 2.0000"),
     ([4.0, 9.0, 2.0], "3 epochs, loss 4.0000 -> 2.0000")],
)  # fmt: skip
def test_first_and_last_are_of_different_values(losses, text):
    assert Fit(start(), np.array(losses), None, "epoch").summary() == text


@pytest.mark.parametrize(
    ("batches", "message"),
    [([], "batches is empty"), (jnp.zeros((0, 3)), "empty batch"), (3, "must be a pytree")],
)
def test_bad_batches(batches, message):
    with pytest.raises(ValueError, match=message):
        mcjax.fit(start(), well, batches, optax.sgd(0.1), key=jax.random.key(0))


def test_loss_must_be_a_scalar():
    with pytest.raises(ValueError, match="must return a scalar"):
        mcjax.fit(
            start(), lambda p, b: p["w"], jnp.zeros((3, 1)), optax.sgd(0.1), key=jax.random.key(0)
        )
