"""What moves inputs, under the modes that JAX can be in."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from mcjax.inputs import Bypass, Synthesis, bypass, synthesise
from mcjax.tasks import REGRESSION

from ..modes import MODES

PARAMS = {"at": np.float32([0.0, -0.2, 0.1])}
Y = np.zeros((2, 1), np.float32)


def hill(params, x):
    off = x.reshape(len(x), -1)[:, :3] - params["at"][None]
    return jnp.exp(-2 * jnp.sum(off**2, -1, keepdims=True))


def led_around():
    a = np.random.default_rng(0).normal(size=(2, 3, 3, 1)).astype(np.float32)
    how = Bypass(
        0.05, 2, points=21, steps=32, block=8, learning_rate=0.05, roughness=1e-3, bounds=(-2.5, 2)
    )
    made = bypass(hill, PARAMS, (np.clip(a, -2, 2), np.clip(-a, -2, 2)), Y, how, task=REGRESSION)
    return np.r_[made.height, np.concatenate(made.points).ravel()]


def made_from_noise():
    start = np.float32([[0.1, 0, 0], [0, 0.1, 0.2]])
    how = Synthesis(0.01, steps=16, learning_rate=0.1)
    return synthesise(hill, PARAMS, start, Y, how, task=REGRESSION).x


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("function", [led_around, made_from_noise])
def test_the_same_in_every_mode(function, mode):
    expected = function()
    with MODES[mode]():
        found = function()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
