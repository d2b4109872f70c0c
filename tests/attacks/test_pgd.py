"""Projected gradient descent in input space."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.attacks import PGD
from mcjax.attacks.model import AttackedModel, attack_inputs
from mcjax.data import load
from mcjax.models import MLP
from mcjax.training import Protocol, train_curve, train_networks


def linear(params, x):
    return x @ params["w"]


def test_a_linear_model_against_its_closed_form():
    """For two classes the gradient's sign is constant: the attack ends on the ball's corner."""
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(5, 2)), jnp.float32)}
    x, y = jnp.asarray(rng.uniform(0.3, 0.7, (20, 5)), jnp.float32), jnp.asarray([0, 1] * 10)
    found = PGD(0.1, 0.1, steps=5).perturb(linear, params, x, y, key=jax.random.key(0))
    difference = np.asarray(params["w"])[:, 1] - np.asarray(params["w"])[:, 0]
    sign = np.where(np.asarray(y)[:, None] == 0, 1, -1) * np.sign(difference)
    np.testing.assert_allclose(found, x + 0.1 * sign, atol=1e-6)


def test_ball_and_bounds_in_the_units_of_the_images():
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (8, 4, 4, 3)).astype(np.float32)
    x = (images - np.float32(mean)) / np.float32(std)
    model = MLP((6,), 10)
    params = model.init(jax.random.key(0), x)
    attack = PGD(0.05, 0.02, 4, mean=mean, std=std)
    attack.check(x)
    moved = attack.perturb(
        model.apply, params, jnp.asarray(x), jnp.arange(8), key=jax.random.key(1)
    )
    pixels = np.asarray(moved) * np.float32(std) + np.float32(mean)
    assert np.abs(pixels - images).max() <= 0.05 + 1e-5
    assert pixels.min() >= -1e-5
    assert pixels.max() <= 1 + 1e-5
    assert np.abs(pixels - images).max() > 0.04


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0}, "epsilon must be positive and finite, got 0"),
        ({"epsilon": -0.1}, "epsilon must be positive"),
        ({"epsilon": float("nan")}, "epsilon must be positive"),
        ({"step": 0}, "step must be positive"),
        ({"steps": 0}, "steps must be a positive integer"),
        ({"bounds": (1.0, 0.0)}, "bounds must be"),
        ({"std": (0.0,)}, "std must be positive"),
    ],
)
def test_bad_attacks(arguments, message):
    with pytest.raises(ValueError, match=message):
        PGD(**arguments)


def test_inputs_outside_the_range():
    x = jnp.full((3, 4), 2.0)
    path = mcjax.path.Linear({"w": jnp.ones((4, 2))}, {"w": jnp.zeros((4, 2))})
    with pytest.raises(ValueError, match=r"values lie in \[2, 2\], outside the attack's bounds"):
        mcjax.evaluate(path, linear, (x, jnp.zeros(3, int)), attack=PGD())


def test_evaluation_is_that_of_attacked_inputs():
    rng = np.random.default_rng(0)
    a, b = ({"w": jnp.asarray(rng.normal(size=(5, 3)), jnp.float32)} for _ in range(2))
    x, y = jnp.asarray(rng.uniform(0, 1, (40, 5)), jnp.float32), jnp.asarray(rng.integers(0, 3, 40))
    path, attack = mcjax.path.Linear(a, b), PGD(0.1, 0.04)
    key = jax.random.key(5)
    curve = mcjax.evaluate(path, linear, (x, y), t=3, attack=attack, key=key, chunk=40)
    keys = jnp.stack([jax.random.fold_in(key, n) for n in range(40)])
    for t, accuracy in zip(curve.t, curve.accuracy, strict=True):
        moved = attack.perturb(linear, path(t), x, y, key=keys)
        expected = float(np.mean(np.argmax(linear(path(t), moved), -1) == np.asarray(y)))
        assert accuracy == pytest.approx(expected)
    clean = mcjax.evaluate(path, linear, (x, y), t=3)
    assert (curve.loss > clean.loss).all()
    chunked = mcjax.evaluate(path, linear, (x, y), t=3, attack=attack, key=key, chunk=7)
    np.testing.assert_allclose(chunked.loss, curve.loss, rtol=1e-5)
    other = mcjax.evaluate(path, linear, (x, y), t=3, attack=PGD(0.1, 1e-3, 1), key=key)
    again = mcjax.evaluate(
        path, linear, (x, y), t=3, attack=PGD(0.1, 1e-3, 1), key=jax.random.key(6)
    )
    assert not np.allclose(other.loss, again.loss)


def test_an_attack_on_a_regression_against_its_closed_form():
    """The squared error of a linear model grows away from the target: to a corner of the ball."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(5, 1)).astype(np.float32)
    x = rng.uniform(0.4, 0.6, (20, 5)).astype(np.float32)
    above = np.where(np.arange(20)[:, None] % 2, 1.0, -1.0).astype(np.float32)
    y = x @ w - 3 * above  # the outputs lie above or below the targets by 3
    found = PGD(0.1, 0.1, 5).perturb(
        linear, {"w": w}, jnp.asarray(x), y, key=jax.random.key(0), task=mcjax.tasks.REGRESSION
    )
    np.testing.assert_allclose(found, x + 0.1 * above * np.sign(w.T), atol=1e-6)


def test_adversarial_training_of_end_points_and_of_a_curve():
    data = load("digits").flat()
    model, attack = MLP((32,)), PGD(0.15, 0.05, 4)
    protocol = Protocol(8, 64, 0.1)
    sets = (data.x_train, data.y_train)
    start = lambda key: model.init(key, data.x_train[:1])
    plain = train_networks(model.apply, start, sets, (0, 1), protocol)
    against = dataclasses.replace(protocol, attack=attack)
    robust = train_networks(model.apply, start, sets, (0, 1), against)
    test = (data.x_test, data.y_test)

    def worst(path):
        return mcjax.evaluate(path, model.apply, test, 5, attack=attack).worst()

    lines = [mcjax.path.Linear(*pair) for pair in (plain, robust)]
    at_ends = [
        mcjax.evaluate(v, model.apply, test, [0.0, 1.0], attack=attack).worst() for v in lines
    ]
    assert at_ends[1] > at_ends[0] + 0.1
    bezier = mcjax.path.Bezier.between(*robust)
    curve = train_curve(bezier, model.apply, sets, against, key=jax.random.key(0))
    assert worst(curve.path) > worst(bezier)


def test_every_example_starts_from_its_own_key():
    """Example n from fold_in(key, n), which a model without gradients shows."""
    attack, key, x = PGD(epsilon=0.1, step=0.05, steps=2), jax.random.key(4), jnp.full((7, 3), 0.5)
    model = AttackedModel(lambda p, x: jax.lax.stop_gradient(x), attack)
    found = model(None, attack_inputs(x, jnp.zeros(7, int), key, start=5))
    for n, start in enumerate(found, 5):
        drawn = jax.random.uniform(jax.random.fold_in(key, n), (3,), minval=-1, maxval=1)
        np.testing.assert_allclose(start, 0.5 + 0.1 * drawn, rtol=1e-6)
