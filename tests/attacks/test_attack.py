"""Projected gradient descent in input space."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.attacks import PGD
from mcjax.data import load
from mcjax.models import MLP
from mcjax.training import train_curve, train_networks
from mcjax.training.protocol import Protocol


def linear(params, x):
    return x @ params["w"]


def test_a_linear_model_against_its_closed_form():
    """For two classes the gradient's sign is constant: the attack ends on the ball's corner."""
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(5, 2)), jnp.float32)}
    x, y = jnp.asarray(rng.uniform(0.3, 0.7, (20, 5)), jnp.float32), jnp.asarray([0, 1] * 10)
    found = PGD(0.1, 0.1, steps=5).perturb(linear, params, x, y, jax.random.key(0))
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
    moved = attack.perturb(model.apply, params, jnp.asarray(x), jnp.arange(8), jax.random.key(1))
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
    curve = mcjax.evaluate(path, linear, (x, y), t=3, attack=attack, chunk=40)
    for t, accuracy in zip(curve.t, curve.accuracy, strict=True):
        moved = attack.perturb(linear, path(t), x, y, jax.random.key(0))
        expected = float(np.mean(np.argmax(linear(path(t), moved), -1) == np.asarray(y)))
        assert accuracy == pytest.approx(expected)
    clean = mcjax.evaluate(path, linear, (x, y), t=3)
    assert (curve.loss > clean.loss).all()


def test_adversarial_training_of_end_points_and_of_a_curve():
    data = load("digits").flat()
    model, attack = MLP((32,)), PGD(0.15, 0.05, 4)
    protocol = Protocol(8, 64, 0.1)
    sets = (data.x_train, data.y_train)
    start = lambda key: model.init(key, data.x_train[:1])
    plain = train_networks(model.apply, start, sets, (0, 1), protocol)
    robust = train_networks(model.apply, start, sets, (0, 1), protocol, attack=attack)
    test = (data.x_test, data.y_test)

    def worst(path):
        return mcjax.evaluate(path, model.apply, test, 5, attack=attack).worst()

    lines = [mcjax.path.Linear(*pair) for pair in (plain, robust)]
    at_ends = [
        mcjax.evaluate(v, model.apply, test, [0.0, 1.0], attack=attack).worst() for v in lines
    ]
    assert at_ends[1] > at_ends[0] + 0.1
    bezier = mcjax.path.Bezier.between(*robust)
    curve = train_curve(bezier, model.apply, sets, protocol, key=jax.random.key(0), attack=attack)
    assert worst(curve.path) > worst(bezier)
