"""REPAIR: the units of an interpolated network get their statistics back."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.evaluation import Repaired, estimate_batch_norm
from mcjax.path import Linear
from mcjax.training import train_networks

from ..align.test_matching import inputs, mlp, random_mlp
from ..catalogue import MODELS


def preactivations(params, x):
    out, h = [], np.asarray(x, np.float64)
    for layer in params[:-1]:
        z = h @ np.asarray(layer["w"], np.float64) + np.asarray(layer["b"], np.float64)
        out.append(z)
        h = np.maximum(z, 0)
    return out


def test_mean_and_deviation_of_every_hidden_unit():
    a, b = random_mlp((6, 20, 15, 3), 0), random_mlp((6, 20, 15, 3), 1)
    x = inputs(400, 6)
    network = mcjax.trace(mlp, a, x)
    path = Repaired(Linear(a, b), network, x, chunk=400)
    t = 0.3
    ends = [preactivations(p, x) for p in (a, b)]
    for z, za, zb in zip(preactivations(path(t), x), *ends, strict=True):
        np.testing.assert_allclose(z.mean(0), (1 - t) * za.mean(0) + t * zb.mean(0), atol=1e-4)
        np.testing.assert_allclose(z.std(0), (1 - t) * za.std(0) + t * zb.std(0), rtol=1e-3)
    plain = preactivations(Linear(a, b)(0.5), x)
    assert (plain[1].std(0) < 0.9 * (ends[0][1].std(0) + ends[1][1].std(0)) / 2).mean() > 0.7
    np.testing.assert_array_equal(path(t)[-1]["w"], Linear(a, b)(t)[-1]["w"])


@pytest.mark.parametrize("model", ["gru", "scan", "groupnorm"], indirect=True)
def test_loops_and_shared_axes_are_left_out(model):
    case, network = model
    with pytest.raises(ValueError, match="no hidden layer with a bias"):
        Repaired(Linear(case.another(1), case.another(2)), network, case.inputs(32))


@pytest.mark.parametrize(
    "model", ["mlp", "convnet", "inception", "layernorm", "transformer", "nnx-mlp"], indirect=True
)
def test_end_points_and_transformations(model):
    """Exact ends, and the same under jit."""
    case, network = model
    a, b = case.another(1), case.another(2)
    x = case.inputs(32)
    path = Repaired(Linear(a, b), network, x, chunk=32)
    for t, end in ((0.0, a), (1.0, b)):
        jax.tree.map(np.testing.assert_array_equal, path(t), end)
    jitted = jax.jit(path.at)(0.4)
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, atol=1e-4), jitted, path(0.4))
    assert all(np.isfinite(np.asarray(v)).all() for v in jax.tree.leaves(jitted))


def test_batch_normalisation_is_estimated_again():
    case = MODELS["vgg-bn"]()
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    a, b = case.another(1), case.another(2)
    x = case.inputs(64)
    repaired = Repaired(Linear(a, b), network, x, chunk=64)(0.5)
    expected = estimate_batch_norm(case.apply_fn, Linear(a, b)(0.5), x, chunk=64)
    jax.tree.map(
        lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-3, atol=1e-4),
        repaired["batch_stats"],
        expected["batch_stats"],
    )


def test_the_barrier_falls_after_alignment():
    from mcjax.data import load
    from mcjax.models import MLP
    from mcjax.training.protocol import Protocol

    data = load("digits").flat()
    model = MLP((40, 40, 40))
    sets = (data.x_train, data.y_train)
    a, b = train_networks(
        model.apply, lambda k: model.init(k, data.x_train[:1]), sets, (0, 1), Protocol(20, 64, 0.05)
    )
    network = mcjax.trace(model.apply, a, data.x_train[:2])
    aligned = mcjax.connect(network, a, b, "activation-matching", x=data.x_train).path
    repaired = Repaired(aligned, network, data.x_train)
    plain, mended = (mcjax.evaluate(p, model.apply, sets, 11) for p in (aligned, repaired))
    assert mended.barrier() < 0.6 * plain.barrier()


def test_nothing_to_repair():
    f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
    a = {"w1": jnp.eye(3), "w2": jnp.eye(3)}
    network = mcjax.trace(f, a, jnp.eye(3))
    with pytest.raises(ValueError, match="no hidden layer with a bias"):
        Repaired(Linear(a, a), network, jnp.eye(3))
    with pytest.raises(ValueError, match="empty batch"):
        Repaired(Linear(a, a), network, jnp.ones((0, 3)))


def test_units_that_never_vary_are_left_alone():
    """A unit without incoming weights has no variance to repair."""
    a, b = random_mlp((6, 8, 3), 0), random_mlp((6, 8, 3), 1)
    for params in (a, b):
        params[0]["w"] = params[0]["w"].at[:, 2].set(0)
    x = inputs(100, 6)
    network = mcjax.trace(mlp, a, x)
    path = Repaired(Linear(a, b), network, x, chunk=100)
    assert all(np.isfinite(np.asarray(v)).all() for v in jax.tree.leaves(path(0.5)))
    np.testing.assert_array_equal(path(0.5)[0]["w"][:, 2], 0)
