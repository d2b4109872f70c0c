"""REPAIR: the units of an interpolated network get their statistics back."""

from __future__ import annotations

import functools
from collections import Counter

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax import _stream
from mcjax.evaluation import Repaired, estimate_batch_norm, repair
from mcjax.path import Linear
from mcjax.testing.models.cases import by_hand, sequences, vectors
from mcjax.training import train_networks

from ..align.test_matching import inputs, mlp, random_mlp
from ..conftest import traced


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


@pytest.mark.parametrize("model", ["gru", "scan", "stacked-layers"], indirect=True)
def test_loops_and_slices_are_left_out(model):
    case, network = model
    with pytest.raises(ValueError, match="no hidden layer with a bias"):
        Repaired(Linear(case.another(1), case.another(2)), network, case.inputs(32))


def branches_and_heads():
    """Two branches written by one layer beside their own, then attention of 2 heads of 3 units."""
    shapes = {
        "w1": (5, 7), "b1": (7,), "w2": (5, 4), "b2": (4,), "w3": (11, 6), "b3": (6,),
        "qk": (6, 2, 6), "b_qk": (2, 6), "v": (6, 6), "b_v": (6,), "o": (2, 3, 6), "out": (6, 3),
    }  # fmt: skip

    def units(p, x):
        """Pre-activations by the name of their bias, then the outputs."""
        found = {}

        def layer(h, w, b):
            w, bias = p[w], p[b]
            found[b] = jnp.tensordot(h, w, 1) + bias
            return found[b]

        both = layer(x, "w1", "b1")  # 7 channels: 3 of one kind of unit, 4 of another
        gated = jnp.tanh(both[..., :3]) * jnp.sum(both[..., 3:] ** 2, -1, keepdims=True)
        h = jnp.concatenate([gated, both[..., 3:], jax.nn.relu(layer(x, "w2", "b2"))], -1)
        h = layer(h, "w3", "b3")
        q, k = jnp.split(layer(h, "qk", "b_qk"), 2, -1)
        v = layer(h, "v", "b_v").reshape(*h.shape[:2], 2, 3)
        weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k))
        h = h + jnp.tensordot(jnp.einsum("bhts,bshd->bthd", weights, v), p["o"], 2)
        return found, jnp.mean(jnp.tanh(h), 1) @ p["out"]

    expected = [(3,), (4,), (4,), (6,), (2,), (2, 3), (2, 3)]
    return units, by_hand(lambda p, x: units(p, x)[1], shapes, sequences(), expected)


def test_units_that_share_an_axis_with_others():
    """Channels of two branches on one bias, queries, keys and values of two heads."""
    units, case = branches_and_heads()
    rng = np.random.default_rng(0)
    shuffled = lambda v: jnp.asarray(rng.permutation(np.ravel(v)).reshape(v.shape))
    a, b = case.params, jax.tree.map(shuffled, case.params)
    x = case.inputs(300)
    network = mcjax.trace(case.apply_fn, a, x)
    assert Counter(g.shape for g in network.groups.values()) == case.shapes
    path = Repaired(Linear(a, b), network, x, chunk=300)
    t = 0.4
    ends = [units(p, x)[0] for p in (a, b)]
    plain, repaired = (units(p.at(t), x)[0] for p in (Linear(a, b), path))
    for name in repaired:
        mean, deviation = (
            (1 - t) * one + t * two
            for one, two in zip(*[moments(e[name]) for e in ends], strict=True)
        )
        found = moments(repaired[name])
        np.testing.assert_allclose(found[0], mean, atol=2e-3 * deviation.max())
        np.testing.assert_allclose(found[1], deviation, rtol=2e-3)
        assert np.abs(moments(plain[name])[1] / deviation - 1).max() > 0.02


def moments(values):
    """Mean and deviation of every channel, over examples and tokens, in float64."""
    values = np.asarray(values, np.float64)
    return values.mean((0, 1)), values.std((0, 1))


def test_units_of_group_normalisation():
    """A convolution before GroupNorm: 8 channels, 2 groups of 4."""
    case, network = traced("groupnorm")
    a, b = case.another(1), case.another(2)
    x = case.inputs(64)
    path = Repaired(Linear(a, b), network, x, chunk=64)

    def first(params):
        own = params["params"]["Conv_0"]
        return nn.Conv(8, (3, 3)).apply({"params": own}, x).reshape(64, -1, 8)

    one, two, middle = (moments(first(p)) for p in (a, b, path(0.5)))
    np.testing.assert_allclose(middle[0], (one[0] + two[0]) / 2, atol=1e-4)
    np.testing.assert_allclose(middle[1], (one[1] + two[1]) / 2, rtol=1e-3)


def test_channels_that_are_no_units_stay():
    """Four outputs of the model and five hidden units have one bias."""

    def apply_fn(p, x):
        both = x @ p["w"] + p["b"]
        return both[:, :4] + jax.nn.relu(both[:, 4:]) @ p["out"]

    case = by_hand(apply_fn, {"b": (9,), "out": (5, 4), "w": (6, 9)}, vectors(), [(5,)])
    a, b = case.params, case.another(2)
    x = case.inputs(100)
    network = mcjax.trace(apply_fn, a, x)
    line = Linear(a, b)
    point, plain = Repaired(line, network, x, chunk=100)(0.5), line(0.5)
    for name in ("w", "b"):
        np.testing.assert_array_equal(point[name][..., :4], plain[name][..., :4])
    one, two, middle = (np.std(np.asarray(x @ p["w"][:, 4:], np.float64), 0) for p in (a, b, point))
    np.testing.assert_allclose(middle, (one + two) / 2, rtol=1e-3)


def test_every_example_counts():
    """100 examples in batches of 64: the first layer's means are those over all of them."""
    a, b = random_mlp((6, 20, 15, 3), 0), random_mlp((6, 20, 15, 3), 1)
    x = inputs(100, 6) + np.linspace(0, 3, 100, dtype=np.float32)[:, None]
    path = Repaired(Linear(a, b), mcjax.trace(mlp, a, x), x, chunk=64)
    means = [preactivations(p, x)[0].mean(0) for p in (a, b, path(0.25))]
    np.testing.assert_allclose(means[2], 0.75 * means[0] + 0.25 * means[1], atol=1e-3)


def test_a_frozen_normaliser_of_the_inputs_stays():
    shared = {"shift": jnp.full(6, 1.0), "spread": jnp.full(6, 4.0)}
    apply = lambda p, x: mlp(p["net"], (x - p["shift"]) / jnp.sqrt(p["spread"]))
    a, b = ({"net": random_mlp((6, 9, 3), s), **shared} for s in (0, 1))
    x = inputs(60, 6)
    middle = Repaired(mcjax.path.Arc(a, b), mcjax.trace(apply, a, x), x)(0.5)
    for name, value in shared.items():
        np.testing.assert_array_equal(middle[name], value)


class Batches:
    """A data loader: batches of seven, as often as one likes."""

    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return (self.x[i : i + 7] for i in range(0, len(self.x), 7))


def on_disk(x, folder):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


@pytest.mark.parametrize("source", [on_disk, lambda x, folder: Batches(x)], ids=["map", "batches"])
def test_inputs_that_no_device_holds(source, monkeypatch, tmp_path):
    """As in one pass over all of them: blocks of two batches of 16, the last batch of 4."""
    a, b = random_mlp((6, 20, 15, 3), 0), random_mlp((6, 20, 15, 3), 1)
    x, network = inputs(100, 6), mcjax.trace(mlp, a, inputs(2, 6))
    data = np.asarray(x), np.arange(100) % 3
    whole = Repaired(Linear(a, b), network, jnp.asarray(x), chunk=16)
    monkeypatch.setattr(_stream, "BLOCK_BYTES", 40 * 6 * 4)
    sizes, of_block = [], repair._of_block
    monkeypatch.setattr(repair, "_of_block", lambda *a: sizes.append(len(a[4])) or of_block(*a))
    streamed = Repaired(Linear(a, b), network, source(data[0], tmp_path), chunk=16)
    assert (sum(sizes), max(sizes)) == (100, 32)
    for t in (0.0, 0.3, 1.0):
        close(streamed(t), whole(t))
    sizes.clear()
    curves = [mcjax.evaluate(path, network, data, 5) for path in (streamed, whole)]
    assert sum(sizes) == 100  # one pass for all points
    np.testing.assert_allclose(*(c.loss for c in curves), rtol=1e-5)
    with pytest.raises(ValueError, match=r"streamed from the host.*path\.all_at\(ts\) outside"):
        jax.jit(streamed.at)(0.5)


def test_batch_normalisation_of_batches(monkeypatch):
    def f(p, x):
        h = (x @ p["w"] + p["b"] - p["mean"]) / jnp.sqrt(p["var"] + 1e-3)
        return jax.nn.relu(jax.nn.relu(h) @ p["v"] + p["c"]) @ p["out"]

    shapes = {"w": (6, 5), "b": (5,), "mean": (5,), "var": (5,), "v": (5, 4), "c": (4,),
              "out": (4, 3)}  # fmt: skip
    a, b = ({n: jnp.abs(inputs(30, 1, s)[: np.prod(v), 0].reshape(v)) for n, v in shapes.items()}
            for s in (1, 2))  # fmt: skip
    x = inputs(45, 6)
    network = mcjax.trace(f, a, x[:2])
    whole = Repaired(Linear(a, b), network, jnp.asarray(x), chunk=10)
    close(Repaired(Linear(a, b), network, Batches(np.asarray(x)), chunk=10)(0.4), whole(0.4))


def close(found, expected):
    same = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-6)
    jax.tree.map(same, found, expected)


def test_batches_that_come_once():
    a = random_mlp((6, 8, 3), 0)
    with pytest.raises(ValueError, match="only once, and REPAIR needs 2 passes"):
        Repaired(Linear(a, a), mcjax.trace(mlp, a, inputs(2, 6)), iter(Batches(inputs(9, 6))))


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
    case, network = traced("vgg-bn")
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
    from mcjax.training import Protocol

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


def test_parameters_with_leaves_that_are_no_arrays():
    f = lambda p, x: jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"]
    x = jax.random.normal(jax.random.key(0), (20, 3))
    a, b = ({"w1": s * jnp.eye(3), "b1": jnp.zeros(3), "w2": jnp.ones((3, 1))} for s in (1.0, -1.0))
    plain = Repaired(mcjax.path.Linear(a, b), mcjax.trace(f, a, x, check=False), x)(0.75)
    a, b = ({**p, "name": "net"} for p in (a, b))
    named = Repaired(mcjax.path.Linear(a, b), mcjax.trace(f, a, x, check=False), x)(0.75)
    assert named.pop("name") == "net"
    assert all(jnp.array_equal(named[n], plain[n]) for n in plain)
