"""Inputs of low loss made from any start: on planted hills and by hand."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.inputs import Synthesis, synthesise
from mcjax.inputs.synthesis import surrogate
from mcjax.tasks import REGRESSION

RNG = np.random.default_rng(3)
START = RNG.normal(size=(7, 4)).astype(np.float32)
LABELS = np.arange(7) % 2
W = {"w": np.float32([[2, -1], [0, 1], [-1, 0], [1, 3]])}


def linear(params, x):
    return x @ params["w"]


def losses_in_numpy(x, y):
    z = np.asarray(x, np.float64) @ W["w"]
    return np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), y]


def test_inputs_reach_their_labels_and_the_losses_are_theirs():
    how = Synthesis(0.01, steps=400, block=10)
    found = synthesise(linear, W, START, LABELS, how)
    assert found.status.tolist() == ["below delta"] * 7
    np.testing.assert_allclose(found.loss, losses_in_numpy(found.x, LABELS), rtol=1e-4, atol=1e-6)
    assert (losses_in_numpy(found.x, LABELS) <= 0.0101).all()
    assert "7: 7 below delta" in repr(found)


def test_steps_are_adams_in_float64():
    how = Synthesis(1e-9, steps=6, block=4, learning_rate=0.02, deviation=0.5)
    found = synthesise(linear, W, START, LABELS, how)
    x, m, v = START.astype(np.float64), 0.0, 0.0
    for k in range(1, 7):
        z = x @ W["w"]
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        slope = (p - np.eye(2)[LABELS]) @ W["w"].T + 0.5 * 2 * (x - START) / 4
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        x = x - 0.02 * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
    np.testing.assert_allclose(found.x, x, atol=1e-5)
    assert found.status.tolist() == ["budget spent"] * 7


def test_bounds_are_kept():
    how = Synthesis(1e-6, steps=60, learning_rate=0.2, bounds=(-3.0, (3.0, 3.0, 0.5, 3.0)))
    start = np.clip(START, -3, 0.5)
    found = synthesise(linear, W, start, LABELS, how)
    assert (found.x <= np.float32([3, 3, 0.5, 3])).all()
    assert (found.x >= -3).all()
    assert found.x[:, 2].max() == 0.5
    free = synthesise(linear, W, start, LABELS, dataclasses.replace(how, bounds=None))
    assert free.x[:, 2].max() > 0.5
    with pytest.raises(ValueError, match=r"x: values lie in .* outside the bounds"):
        synthesise(linear, W, start + 3, LABELS, how)


def masked(x, key):
    """An input with about half of its entries left out."""
    return jnp.where(jax.random.bernoulli(key, shape=x.shape), x, 0)


def test_transforms_are_drawn_for_each_input_and_step():
    """Adam's steps in float64, with the masks of the same keys."""
    how = Synthesis(1e-9, steps=4, block=2, learning_rate=0.02)
    key = jax.random.key(5)
    found = synthesise(linear, W, START, LABELS, how, transform=masked, key=key)
    x, m, v = START.astype(np.float64), 0.0, 0.0
    for k in range(1, 5):
        keys = [jax.random.fold_in(jax.random.fold_in(key, i), k - 1) for i in range(7)]
        mask = np.stack([masked(jnp.ones(4), one) for one in keys])
        z = (x * mask) @ W["w"]
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        slope = mask * ((p - np.eye(2)[LABELS]) @ W["w"].T)
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        x = x - 0.02 * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
    np.testing.assert_allclose(found.x, x, atol=1e-5)
    np.testing.assert_allclose(found.loss, losses_in_numpy(found.x, LABELS), rtol=1e-4, atol=1e-6)
    alone = synthesise(linear, W, START, LABELS, how, transform=masked, key=key, chunk=2)
    assert not np.allclose(found.x[0] - START[0], found.x[2] - START[2])
    np.testing.assert_allclose(alone.x, found.x, atol=1e-6)


def test_the_surrogate_against_numpy():
    """A step of Adam is the sign of the gradient, here by finite differences in float64."""

    def value(x):
        z = np.asarray(x, np.float64) @ W["w"]
        mine = z[np.arange(len(z)), LABELS]
        return 0.5 * mine * np.sqrt(np.maximum(mine / np.linalg.norm(z, axis=1), 0.1))

    lowered = surrogate(START @ W["w"], LABELS)
    np.testing.assert_allclose(-lowered, value(START), rtol=1e-4)
    assert (value(START) < 0).any()  # where the floor counts
    how = Synthesis(1e-9, steps=1, learning_rate=0.01, surrogate=True)
    moved = synthesise(linear, W, START, LABELS, how).x - START
    slope = np.stack(
        [(value(START + 1e-5 * e) - value(START - 1e-5 * e)) / 2e-5 for e in np.eye(4)], 1
    )
    clear = np.abs(slope) > 1e-3
    assert clear.mean() > 0.6
    np.testing.assert_allclose(moved[clear], 0.01 * np.sign(slope[clear]), rtol=1e-3)


def test_the_surrogate_where_all_logits_are_zero():
    """From zero, where the network has no bias: √0.1 / 2 of the logit, as in its limit."""
    assert not np.asarray(surrogate(jnp.zeros((2, 3)), jnp.array([0, 1]))).any()
    how = Synthesis(1e-9, steps=1, learning_rate=0.01, surrogate=True)
    moved = synthesise(linear, W, 0 * START, LABELS, how).x
    np.testing.assert_allclose(moved, 0.01 * np.sign(W["w"].T[LABELS]), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_small_slopes_in_half_precision(dtype):
    """Their squares are no numbers of float16."""
    how = Synthesis(1e-9, steps=12, block=5, learning_rate=0.125)
    flat, y = {"w": 1e-2 * W["w"]}, np.zeros((7, 2), np.float32)
    wide, half = (
        synthesise(linear, {"w": jnp.asarray(flat["w"], t)}, jnp.asarray(8 * START, t), y, how,
                   task=REGRESSION) for t in ("float32", dtype)
    )  # fmt: skip
    np.testing.assert_allclose(half.x.astype(np.float32), wide.x, atol=0.3)


def test_each_stops_at_its_own_threshold():
    """The first block always runs; who is beside an input changes nothing."""
    below = np.array([1e9, 1e-9, 1e9, 0.1, 0.2, 0.3, 0.4])
    how = Synthesis(0.01, steps=60, block=2)
    found = synthesise(linear, W, START, LABELS, how, below=below, chunk=4)
    for i in range(7):
        alone = synthesise(
            linear, W, START[i : i + 1], LABELS[i : i + 1], how, below=below[i : i + 1]
        )
        np.testing.assert_allclose(found.x[i], alone.x[0], atol=1e-5)
    two = synthesise(linear, W, START[2:3], LABELS[2:3], Synthesis(1e-9, steps=2, block=2))
    np.testing.assert_allclose(found.x[2], two.x[0], atol=1e-6)
    assert two.loss > 1  # it would have gone on


def test_the_better_of_two_labels_counts():
    near = np.float32([[3, 0, 0, -1], [-3, 0, 0, 3]])  # of class 0 and of class 1
    found = synthesise(linear, W, near, (np.zeros(2, int), np.ones(2, int)), Synthesis(0.05))
    assert losses_in_numpy(found.x[:1], [0]) < 0.05
    assert losses_in_numpy(found.x[1:], [1]) < 0.05


def test_what_does_not_get_there_is_said():
    flat = lambda p, x: 0 * x[:, :1] + p["w"][0, 0]
    y = np.zeros((2, 1), np.float32)
    found = synthesise(flat, W, START[:2], y, Synthesis(steps=3), task=REGRESSION)
    assert found.status.tolist() == ["budget spent"] * 2
    broken = lambda p, x: jnp.log(-1 - x[:, :1] ** 2) * p["w"][0, 0]
    found = synthesise(broken, W, START[:2], y, Synthesis(steps=3), task=REGRESSION)
    assert found.status.tolist() == ["not finite"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"delta": 0.0}, "delta must be positive"), ({"steps": 0}, "steps"),
     ({"roughness": -1.0}, "roughness must be ≥ 0"),
     ({"learning_rate": float("nan")}, "learning_rate must be positive")],
)  # fmt: skip
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Synthesis(**options)


class Unhashable:
    """As a module that holds arrays."""

    __hash__ = None

    def __call__(self, x, key):
        return x


@pytest.mark.parametrize(
    ("x", "y", "more", "message"),
    [(np.arange(8).reshape(2, 4), LABELS[:2], {}, "x must be one array of floats"),
     (START * np.nan, LABELS, {}, "not finite|finite"),
     (START, LABELS[:3], {}, "3 labels for 7 inputs"),
     (START, LABELS, {"below": np.ones(3)}, "below must be 7 losses"),
     (START, np.eye(2)[LABELS], {"how": Synthesis(surrogate=True)}, "integer classes"),
     (START, LABELS, {"transform": 3}, "transform must be a function"),
     (START, LABELS, {"transform": Unhashable()}, "transform cannot be hashed"),
     (START, LABELS, {"transform": lambda x, key: x[:2]}, "expected the input's own type"),
     (START, LABELS, {"how": "quick"}, "must be a mcjax.inputs.Synthesis")],
)  # fmt: skip
def test_bad_input(x, y, more, message):
    with pytest.raises(ValueError, match=message):
        mcjax.inputs.synthesise(linear, W, x, y, **more)
