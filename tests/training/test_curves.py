"""Curves trained on data."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.data import crop_flip_and_rotate, load
from mcjax.models import MLP
from mcjax.path import Bezier, PolygonalChain
from mcjax.training import Protocol, Renewed, TrainingLoss, tatro2020, train_curve, train_networks

PROTOCOL = Protocol(4, 64, 0.1, 0.9, 1e-4, True, 2)


def study(hidden=(24, 24)):
    """Networks as they start: what is tested but once does not depend on their training."""
    data = load("digits").flat()
    model = MLP(hidden)
    a, b = (model.init(jax.random.key(s), data.x_train[:1]) for s in (0, 1))
    return model, (data.x_train, data.y_train), a, b


@pytest.mark.parametrize(
    "curve",
    [Bezier.between,
     pytest.param(lambda a, b: Bezier.between(a, b, 2), marks=pytest.mark.slow),
     pytest.param(PolygonalChain.between, marks=pytest.mark.slow)],
    ids=("Bezier", "cubic", "chain"),
)  # fmt: skip
def test_a_trained_curve_is_better_than_the_segment(curve):
    model, sets, *_ = study()
    a, b = train_networks(model.apply, lambda k: model.init(k, sets[0][:1]), sets, (0, 1), PROTOCOL)
    start = curve(a, b)
    fitted = train_curve(start, model.apply, sets, PROTOCOL, key=jax.random.key(0), samples=2)
    before, after = (mcjax.evaluate(p, model.apply, sets, 11) for p in (start, fitted.path))
    assert after.worst("loss") < 0.7 * before.worst("loss")
    assert fitted.losses.shape == (4,)
    assert fitted.summary().startswith("4 epochs, loss ")
    jax.tree.map(np.testing.assert_array_equal, fitted.path(1.0), b)


def test_going_on_after_an_interruption_is_bit_for_bit_the_same(tmp_path):
    model, sets, a, b = study()
    start, key = Bezier.between(a, b), jax.random.key(3)
    whole = train_curve(start, model.apply, sets, PROTOCOL, key=key)

    def stop(epoch, loss):
        if epoch == 1:
            raise KeyboardInterrupt

    arguments = dict(key=key, directory=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train_curve(start, model.apply, sets, PROTOCOL, progress=stop, **arguments)
    epochs = []
    again = train_curve(
        start, model.apply, sets, PROTOCOL, progress=lambda e, _: epochs.append(e), **arguments
    )
    assert epochs == [2, 3]
    jax.tree.map(np.testing.assert_array_equal, again.path, whole.path)
    np.testing.assert_array_equal(again.losses, whole.losses)
    other = dataclasses.replace(PROTOCOL, learning_rate=0.3)
    with pytest.raises(ValueError, match="are of another run"):
        train_curve(start, model.apply, sets, other, **arguments)


def test_what_is_not_free_may_be_renewed_before_every_epoch():
    """By what it is: the same run. By other ends: as they stand in the epoch's points."""
    a, b, c = ({"w": jnp.asarray(v, jnp.float32)} for v in ([[0.0], [0]], [[1.0], [0]], [[9], [9]]))
    x, y = np.eye(2, dtype=np.float32), np.ones((2, 1), np.float32)
    given = (lambda p, x: x @ p["w"]), (x, y), Protocol(3, batch=2)
    options = {"key": jax.random.key(0), "task": mcjax.tasks.REGRESSION, "samples": 16}
    path, seen = Bezier.between(a, b), []
    plain = train_curve(path, *given, **options)

    def same(epoch, path):
        seen.append((epoch, np.asarray(path.points[1]["w"])))
        return path

    renewed = train_curve(Renewed(path, same), *given, **options)
    np.testing.assert_array_equal(renewed.path.points[1]["w"], plain.path.points[1]["w"])
    assert [epoch for epoch, _ in seen] == [0, 1, 2]
    assert np.ptp([w for _, w in seen], 0).max() > 0  # as trained so far
    other = train_curve(
        Renewed(path, lambda _, p: Bezier([c, p.points[1], p.points[2]])), *given, **options
    )
    assert other.losses[0] > 2 * plain.losses[0]
    np.testing.assert_array_equal(other.path.points[0]["w"], a["w"])


def test_too_few_examples():
    model, (x, y), a, b = study((4,))
    with pytest.raises(ValueError, match="10 examples are fewer than one batch of 64"):
        train_curve(
            Bezier.between(a, b), model.apply, (x[:10], y[:10]), PROTOCOL, key=jax.random.key(0)
        )


def test_a_curve_of_two_points_cannot_be_trained():
    model, sets, a, b = study((4,))
    with pytest.raises(ValueError, match="two points has no free points"):
        train_curve(Bezier([a, b]), model.apply, sets, PROTOCOL, key=jax.random.key(0))


def test_a_regression_on_a_curve():
    """The loss of a linear model along a polygonal chain, whose minimum is the true weights."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype(np.float32)
    true = np.array([[1.0], [2.0], [3.0]], np.float32)
    model = lambda p, x: x @ p["w"]
    end = {"w": jnp.asarray(true)}
    start = Bezier([end, {"w": jnp.zeros((3, 1))}, end])
    protocol = Protocol(80, 16, 0.5, 0.9, 0.0)
    fitted = train_curve(start, model, (x, x @ true), protocol, key=jax.random.key(0),
                         task=mcjax.tasks.REGRESSION)  # fmt: skip
    np.testing.assert_allclose(fitted.path.points[1]["w"], true, atol=1e-2)
    assert fitted.losses[-1] < 1e-4 < fitted.losses[0]
    with pytest.raises(ValueError, match="classification needs logits"):
        train_curve(start, model, (x, np.zeros(64, int)), protocol, key=jax.random.key(0))


def test_what_overflows_is_said_once():
    model, (x, y), a, b = study((4,))
    huge = Protocol(2, 256, 1e30)
    with pytest.warns(UserWarning, match=r"not finite from epoch \d on") as seen:
        fitted = train_curve(Bezier.between(a, b), model.apply, (x, y), huge, key=jax.random.key(0))
    assert len(seen) == 1
    assert not fitted.finite
    assert fitted.status.startswith("not finite from epoch")


def test_a_network_in_the_place_of_its_function():
    model, sets, a, b = study((4,))
    network = mcjax.trace(model.apply, a, sets[0][:2])
    protocol = Protocol(1, 256)
    one, other = (
        train_curve(Bezier.between(a, b), f, sets, protocol, key=jax.random.key(0)).losses
        for f in (model.apply, network)
    )
    np.testing.assert_array_equal(one, other)


class Masked(NamedTuple):
    image: Any
    keep: Any


def masked(model, x):
    """An equinox module, whose leaves are not all arrays, on inputs with a mask for all."""
    return jax.vmap(model)(jnp.where(x.keep, x.image, 0))


def test_modules_and_inputs_that_all_examples_share():
    """The mask given once to a function, or to a network that knows it, or for each example."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 5)).astype(np.float32), rng.integers(0, 3, 16)
    keep = np.array([True, False, True, True, True])
    a, b = (eqx.nn.MLP(5, 3, 4, 1, key=jax.random.key(s)) for s in (0, 1))
    marked, plain = Masked(x, mcjax.Shared(keep)), Masked(x, keep)
    network = mcjax.trace(masked, a, marked)
    protocol, key = Protocol(2, 8, 0.1), jax.random.key(0)
    runs = (
        (masked, Masked(x, np.broadcast_to(keep, x.shape))), (masked, marked), (network, plain)
    )  # fmt: skip
    fitted = [
        train_curve(Bezier.between(a, b), model, (inputs, y), protocol, key=key)
        for model, inputs in runs
    ]
    for other in fitted[1:]:
        np.testing.assert_allclose(other.losses, fitted[0].losses, rtol=1e-5)
    assert fitted[0].path(0.5).activation is jax.nn.relu
    search = mcjax.align.Search(protocol)
    start = mcjax.path.Transported.between(network, a, b)
    found = mcjax.align.learn_permutations(start, (plain, y), search, key=key)
    assert found.after["total"] <= found.before["total"]


# -- the loss of a training step -----------------------------------------------------------


class Normalised(nn.Module):
    train: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3))(x)
        x = nn.BatchNorm(use_running_average=not self.train, momentum=0.5)(x)
        return nn.Dense(3)(nn.relu(x).mean((1, 2)))


def test_training_mode_is_that_of_flax():
    """Loss and gradient against flax's own training mode, which keeps the relu's custom rule."""
    x = jax.random.normal(jax.random.key(0), (8, 6, 6, 2))
    y = jnp.arange(8) % 3
    params = Normalised().init(jax.random.key(1), x)
    params = {**params, "batch_stats": jax.tree.map(lambda v: v + 0.7, params["batch_stats"])}

    def by_flax(p):
        variables = {"params": p, "batch_stats": params["batch_stats"]}
        out, _ = Normalised(train=True).apply(variables, x, mutable=["batch_stats"])
        return -jnp.mean(jax.nn.log_softmax(out)[jnp.arange(8), y])

    loss = TrainingLoss(Normalised().apply)
    ours = lambda p: loss({**params, "params": p}, (x, y, jax.random.key(0)))
    expected, found = (jax.value_and_grad(f)(params["params"]) for f in (by_flax, ours))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, atol=1e-5), found[1], expected[1])


def test_custom_gradients_are_kept():
    @jax.custom_vjp
    def sign(x):
        return jnp.sign(x)

    sign.defvjp(lambda x: (jnp.sign(x), None), lambda _, g: (g,))

    def apply_fn(p, x):
        h = (x @ p["w"] - p["mean"]) / jnp.sqrt(p["var"] + 1e-5)
        return sign(h) * p["v"]

    params = {"w": jnp.eye(3), "mean": jnp.zeros(3), "var": jnp.ones(3), "v": jnp.ones(3)}
    x = jax.random.normal(jax.random.key(0), (16, 3))
    gradient = jax.grad(TrainingLoss(apply_fn))(params, (x, jnp.arange(16) % 3, None))
    assert float(jnp.abs(gradient["w"]).max()) > 0


def test_decay_is_of_the_network_without_its_statistics():
    x, y = jnp.ones((4, 6, 6, 2)), jnp.arange(4) % 3
    params = Normalised().init(jax.random.key(1), x)
    key = jax.random.key(0)
    plain = TrainingLoss(Normalised().apply)(params, (x, y, key))
    decayed = TrainingLoss(Normalised().apply, weight_decay=0.1)(params, (x, y, key))
    squares = sum(float((np.asarray(v) ** 2).sum()) for v in jax.tree.leaves(params["params"]))
    assert float(decayed - plain) == pytest.approx(0.05 * squares, rel=1e-4)


@pytest.mark.parametrize("steps", [10, 390])
def test_rates_of_the_protocols(steps):
    """tatro2020's rate halves with the first step of every 20th of 250 epochs, no later."""
    protocol = dataclasses.replace(tatro2020(), momentum=0.0, nesterov=False, weight_decay=0.0)
    optimizer = protocol.optimizer(250 * steps)

    def step(state, _):
        update, state = optimizer.update(jnp.ones(()), state, jnp.zeros(()))
        return state, -update

    # Compiled with the step unknown, as in training: XLA rounds a division otherwise.
    count = 250 * steps
    rates = jax.jit(lambda s: jax.lax.scan(step, s, length=count)[1])(optimizer.init(jnp.zeros(())))
    expected = 0.1 * 0.5 ** (np.arange(count) // (20 * steps))
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


# -- augmentation --------------------------------------------------------------------------


def test_rotations_are_within_fifteen_degrees():
    """A bright point off the centre stays at its distance, and turns by no more than 15°."""
    image = np.zeros((1, 33, 33, 1), np.float32)
    image[0, 16, 24:27] = 1
    many = np.repeat(image, 200, 0)
    moved = np.asarray(crop_flip_and_rotate(jax.random.key(0), jnp.asarray(many)))[..., 0]
    rows, columns = np.mgrid[:33, :33] - 16.0
    weight = moved.sum((1, 2))
    # Undo the flip; a crop shifts by at most 4, so the angle is bounded loosely.
    y = (moved * rows).sum((1, 2)) / weight
    x = np.abs((moved * columns).sum((1, 2)) / weight)
    assert (np.abs(y) <= 4 + 14 * np.sin(np.deg2rad(15)) + 1e-3).all()
    assert (x >= 5 * np.cos(np.deg2rad(15)) - 4 * np.sin(np.deg2rad(15))).all()
    assert y.std() > 2
    assert not np.array_equal(moved[0], moved[1])
