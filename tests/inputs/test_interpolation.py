"""Losses between inputs, against NumPy in float64 and planted curves."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.inputs import Interpolation, interpolate
from mcjax.tasks import REGRESSION

RNG = np.random.default_rng(0)
PARAMS = {
    "w": RNG.normal(size=(6, 8)).astype(np.float32),
    "v": RNG.normal(size=(8, 4)).astype(np.float32),
}
A, C = (RNG.normal(size=(7, 3, 2)).astype(np.float32) for _ in range(2))
Y = RNG.integers(0, 4, 7)


def mlp(params, x):
    return jnp.maximum(x.reshape(len(x), -1) @ params["w"], 0) @ params["v"]


def in_numpy(points, labels):
    """Cross-entropies of points (T, 6), in float64."""
    w, v = (PARAMS[k].astype(np.float64) for k in "wv")
    logits = np.maximum(points @ w, 0) @ v
    return np.log(np.exp(logits).sum(-1)) - logits[:, labels]


def expected(y, t, bend=0.0):
    rows = []
    for a, c, label in zip(A.astype(np.float64), C.astype(np.float64), y, strict=True):
        points = [((1 - s) * a + s * c + bend * s * (1 - s)).ravel() for s in t]
        rows.append(in_numpy(np.array(points), label))
    return np.array(rows)


class Bent(mcjax.path.Path):
    a: jax.Array
    c: jax.Array

    def at(self, t):
        return (1 - t) * self.a + t * self.c + 3 * t * (1 - t)


@pytest.mark.parametrize("chunk", [1, 5, 11, 25, 1000])
def test_losses_are_those_of_numpy_whatever_the_chunk(chunk):
    found = interpolate(mlp, PARAMS, (A, C), Y, 11, chunk=chunk)
    np.testing.assert_allclose(found.loss, expected(Y, found.t), atol=1e-5)
    curves = expected(Y, found.t)
    np.testing.assert_allclose(found.height, curves.max(1), atol=1e-5)
    ends = np.maximum(curves[:, 0], curves[:, -1])
    np.testing.assert_allclose(found.gap, curves.max(1) - ends, atol=1e-5)
    np.testing.assert_array_equal(found.summit, found.t[curves.argmax(1)])


def test_any_path_and_any_grid():
    t = np.array([0, 0.1, 0.5, 1.0])
    found = interpolate(mlp, PARAMS, (A, C), Y, t, path=Bent, chunk=9)
    np.testing.assert_allclose(found.loss, expected(Y, t, bend=3), atol=1e-5)


def test_the_better_of_two_labels():
    other = (Y + 1) % 4
    found = interpolate(mlp, PARAMS, (A, C), (Y, other), 9)
    wanted = np.minimum(expected(Y, found.t), expected(other, found.t))
    np.testing.assert_allclose(found.loss, wanted, atol=1e-5)
    hits = [interpolate(mlp, PARAMS, (A, C), y, 9).values["accuracy"] for y in (Y, other)]
    np.testing.assert_array_equal(found.values["accuracy"], np.maximum(*hits))


def test_a_network_and_another_task():
    network = mcjax.trace(mlp, PARAMS, A)
    target = RNG.normal(size=(7, 4)).astype(np.float32)
    found = interpolate(network, PARAMS, (A, C), target, 5, task=REGRESSION)
    middle = mlp(PARAMS, jnp.asarray((A + C) / 2))
    np.testing.assert_allclose(found.loss[:, 2], ((middle - target) ** 2).mean(1), rtol=1e-5)


def test_barriers_are_runs_above_delta_that_lie_inside():
    t = np.linspace(0, 1, 9)
    losses = np.array([
        [0, 2, 3, 0, 0, 1, 0, 0, 0],  # two
        [5, 4, 0, 0, 0, 0, 0, 0, 0],  # highest at an end: there is nothing to go around
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, np.nan, 0, 0, 0, 0, 0],  # what is not finite is not below δ
        [2, 3, 1, 1, 1, 1, 1, 1, 1],  # the ends lie above δ
    ], np.float32)  # fmt: skip
    found = Interpolation(t, {"loss": losses})
    tops = [v.tolist() for v in found.barriers(0.5)]
    assert tops == [[0.25, 0.625], [], [], [0.375], [0.125]]
    assert [v.tolist() for v in found.barriers(2.5)] == [[0.25], [], [], [0.375], [0.125]]
    np.testing.assert_array_equal(found.gap, [3, 0, 0, np.nan, 1])
    assert "2 pairs are highest at an end" in found.summary()
    assert "1 pairs have losses that are not finite" in found.summary()
    with pytest.raises(ValueError, match="delta must be a loss ≥ 0"):
        found.barriers(-1.0)


def test_a_nan_on_the_way_is_no_number():
    found = interpolate(lambda p, x: mlp(p, x) / (x[:, :1, 0] > 0), PARAMS, (A, C), Y, 5)
    assert np.isnan(found.height).any()


def test_a_figure(tmp_path):
    found = interpolate(mlp, PARAMS, (A, C), Y, 5)
    found.plot(tmp_path / "bands.png")
    assert (tmp_path / "bands.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": (A, A)}, r"A = C in pair 0 \(7 of 7\)"),
        ({"pairs": A}, r"pairs must be \(x_a, x_c\), two arrays"),
        ({"pairs": (A, C[:, :2])}, r"x_c is float32 of shape \(7, 2, 2\), expected float32 of sh"),
        ({"pairs": (np.uint8(0 * A), np.uint8(0 * A + 9))}, "x_a must be one array of floats"),
        ({"pairs": (A, np.where(A > 1, np.nan, A))}, "x_c.* NaN or infinite"),
        ({"pairs": (A[:0], C[:0])}, "x_a is an empty batch"),
        ({"y": Y[:3]}, "y: 3 labels for 7 pairs"),
        ({"y": Y + 4}, "labels lie in .* expected classes from 0 to 3"),
        ({"y": (Y, Y, Y)}, "got a tuple of 3"),
        ({"t": 1}, "t must be 2 points or more"),
        ({"t": [0.0, 0.5]}, "rises from 0 to 1"),
        ({"t": [0.0, 0.7, 0.5, 1.0]}, "rises from 0 to 1"),
        ({"chunk": 0}, "chunk must be a positive integer"),
    ],
)
def test_bad_input(arguments, message):
    given = {"pairs": (A, C), "y": Y} | arguments
    with pytest.raises(ValueError, match=message):
        interpolate(mlp, PARAMS, **given)
