"""Layer-wise connectivity: against NumPy's products, one evaluation a layer, and planted layers."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.evaluation import LayerCurves, StatisticsWarning, evaluate_layers
from mcjax.evaluation.layers import NO_LAYER
from mcjax.network.layer_leaves import leaves_of_layers
from mcjax.tasks import CLASSIFICATION, REGRESSION

from ..test_compiles import Compiled

SIZES = (4, 6, 5, 3)


def linear(p, x):
    for k in range(3):
        x = x @ p[f"w{k}"]
    return x


def deep(p, x):
    for k in range(2):
        x = jax.nn.relu(x @ p[f"w{k}"] + p[f"b{k}"])
    return x @ p["w2"] + p["b2"]


def network_of(f, seed):
    rng = np.random.default_rng(seed)
    made = {f"w{k}": rng.normal(size=s) for k, s in enumerate(itertools.pairwise(SIZES))}
    if f is deep:
        made |= {f"b{k}": rng.normal(size=n) for k, n in enumerate(SIZES[1:])}
    return {k: jnp.asarray(v, jnp.float32) for k, v in made.items()}


def data(n=37, labels=True):
    rng = np.random.default_rng(9)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    y = rng.integers(0, 3, n) if labels else rng.normal(size=(n, 3)).astype(np.float32)
    return x, y


def moved(a, b, layers, t):
    """A with some layers on the way to B's, in float64."""
    return {k: (1 - t * (int(k[1]) in layers)) * np.asarray(a[k], np.float64)
            + t * (int(k[1]) in layers) * np.asarray(b[k], np.float64) for k in a}  # fmt: skip


@pytest.mark.parametrize(
    ("how", "sets"),
    [("alone", ({0}, {1}, {2})), ("with those before", ({0}, {0, 1}, {0, 1, 2})),
     ("with those after", ({0, 1, 2}, {1, 2}, {2}))],
)  # fmt: skip
def test_a_linear_network_is_numpys_products(how, sets):
    """The loss is a polynomial in t: of degree 2 where one layer moves, 6 where all do."""
    a, b = (network_of(linear, s) for s in (0, 1))
    x, y = data(labels=False)
    network = mcjax.trace(linear, a, x)
    found = evaluate_layers(network, a, b, (x, y), 5, moved=how, task=REGRESSION, chunk=10)

    def loss(params):
        out = np.asarray(x, np.float64) @ params["w0"] @ params["w1"] @ params["w2"]
        return ((out - y) ** 2).mean()

    expected = np.array([[loss(moved(a, b, some, t)) for t in found.t] for some in sets])
    np.testing.assert_allclose(found.values["loss"], expected, rtol=2e-5)
    ends = loss(moved(a, b, (), 0)), loss(moved(a, b, {0, 1, 2}, 1))
    chord = (1 - found.t) * ends[0] + found.t * ends[1]
    np.testing.assert_allclose(found.barriers(), (expected - chord).max(1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        found.barriers("endpoint"), expected.max(1) - max(ends), rtol=1e-4, atol=1e-4
    )
    distances = [sum(np.sum((np.asarray(b[f"w{k}"]) - a[f"w{k}"]) ** 2) for k in some) ** 0.5
                 for some in sets]  # fmt: skip
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5)
    if how != "alone":
        everything = sets.index({0, 1, 2})
        np.testing.assert_array_equal(found.values["loss"][everything], found.whole["loss"])


def test_every_layer_is_an_evaluation_of_its_own():
    a, b = (network_of(deep, s) for s in (0, 1))
    network = mcjax.trace(deep, a, data()[0])
    found = evaluate_layers(network, a, b, data(), [0, 0.3, 1])
    assert found.layers == ("w0", "w1", "w2")
    assert found.leaves["w1"] == ("b1", "w1")
    for k, layer in enumerate(found.layers):
        hybrid = {**a, **{n: b[n] for n in found.leaves[layer]}}
        curve = mcjax.evaluate(mcjax.path.Linear(a, hybrid), deep, data(), found.t)
        np.testing.assert_allclose(found.values["loss"][k], curve.loss, rtol=1e-5)
        np.testing.assert_array_equal(found.values["accuracy"][k], curve.accuracy)
    whole = mcjax.evaluate(mcjax.path.Linear(a, b), deep, data(), found.t)
    np.testing.assert_allclose(found.whole["loss"], whole.loss, rtol=1e-5)
    assert found.whole_barrier() == pytest.approx(whole.barrier(), rel=1e-4)
    lost = found.barriers(metric="accuracy")
    own = whole.accuracy
    chord = (1 - found.t) * own[0] + found.t * own[-1]
    np.testing.assert_allclose(lost, (chord - found.values["accuracy"]).max(1), atol=1e-6)


def test_the_layer_that_differs_carries_the_barrier():
    """B is A but for the order of one layer's units, which nothing else follows."""
    a = network_of(deep, 0)
    x = data()[0]
    y = np.asarray(deep(a, x).argmax(-1))
    b = {**a, "w1": a["w1"][:, ::-1], "b1": a["b1"][::-1]}
    network = mcjax.trace(deep, a, x)
    found = evaluate_layers(network, a, b, (x, y))
    assert found.distances[[0, 2]].tolist() == [0, 0]
    np.testing.assert_allclose(found.values["loss"][1], found.whole["loss"], rtol=1e-5)
    np.testing.assert_allclose(np.ptp(found.values["loss"][[0, 2]], 1), 0, atol=1e-6)
    assert found.barriers("endpoint").argmax() == 1
    assert found.values["accuracy"][0].min() == 1


def test_other_networks_compile_nothing():
    a, b = (network_of(deep, s) for s in (0, 1))
    network = mcjax.trace(deep, a, data()[0])
    evaluate_layers(network, a, b, data())
    with Compiled() as compiled:
        evaluate_layers(network, b, a, data())
    assert not compiled.programs


def test_batch_normalisation_belongs_to_the_layer_before():
    def f(p, x):
        h = x @ p["w"] + p["b"]
        h = (h - p["mean"]) * (p["scale"] / jnp.sqrt(p["var"] + 1e-5)) + p["shift"]
        return jax.nn.relu(h) @ p["v"]

    def one(seed):
        rng = np.random.default_rng(seed)
        shapes = {"w": (4, 6), "v": (6, 3), **dict.fromkeys(("b", "mean", "scale", "shift"), (6,))}
        made = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
        return {**made, "var": jnp.ones(6)}

    a, b = one(0), one(1)
    x, y = data()
    network = mcjax.trace(f, a, x)
    with pytest.warns(StatisticsWarning, match="move with their layers"):
        found = evaluate_layers(network, a, b, (x, y), 3)
    assert found.leaves == {"w": ("b", "mean", "scale", "shift", "var", "w"), "v": ("v",)}
    estimated = evaluate_layers(network, a, b, (x, y), 3, statistics=x)
    hybrid = {**b, "v": a["v"]}
    curve = mcjax.evaluate(mcjax.path.Linear(a, hybrid), f, (x, y), 3, statistics=x)
    np.testing.assert_allclose(estimated.values["loss"][0], curve.loss, rtol=1e-4)


def test_tied_and_other_leaves():
    """A weight that two layers share is one; scales of a layer normalisation are in no layer."""

    def f(p, x):
        h = jnp.tanh(x @ p["w"])
        h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5) * p["scale"]
        return jnp.tanh(h @ p["u"]) @ p["u"] @ p["v"]

    rng = np.random.default_rng(0)
    a, b = (
        {"w": rng.normal(size=(4, 6)), "scale": rng.normal(size=6), "u": rng.normal(size=(6, 6)),
         "v": rng.normal(size=(6, 3)), "step": np.int32(s)} for s in (0, 1)
    )  # fmt: skip
    a, b = (jax.tree.map(lambda v: jnp.asarray(v, jnp.result_type(v, jnp.float32)
            if np.asarray(v).dtype.kind == "f" else jnp.int32), p) for p in (a, b))  # fmt: skip
    a, b = ({**p, "scale": p["scale"].astype(jnp.float32)} for p in (a, b))
    network = mcjax.trace(f, a, data()[0])
    assert len(leaves_of_layers(network)) == 3
    found = evaluate_layers(network, a, b, data(), 3, moved="with those before")
    assert found.layers[-1] == NO_LAYER
    assert found.leaves[NO_LAYER] == ("scale",)
    np.testing.assert_array_equal(found.values["loss"][-1], found.whole["loss"])
    assert "in no layer: scale" in found.summary()


def test_what_it_says_and_draws(tmp_path):
    a, b = (network_of(deep, s) for s in (0, 1))
    found = evaluate_layers(mcjax.trace(deep, a, data()[0]), a, b, data(), 3)
    lines = found.summary().splitlines()
    assert lines[0] == "layers alone; 3 points; classification"  # no word of statistics it has not
    assert lines[1].endswith("loss, t=1")
    assert lines[2].endswith(f"{found.values['loss'][0, -1]:.4f}")
    assert lines[2].startswith("w0")
    assert "all layers" in lines[-1]
    axes = found.plot(tmp_path / "bars.png")
    assert [round(p.get_width(), 6) for p in axes.patches] == found.barriers().round(6).tolist()
    assert [t.get_text() for t in axes.get_yticklabels()] == ["w0", "w1", "w2"]
    assert (tmp_path / "bars.png").stat().st_size > 1000
    mcjax.save(tmp_path / "found.safetensors", found)
    again = mcjax.load(tmp_path / "found.safetensors")
    assert isinstance(again, LayerCurves)
    np.testing.assert_array_equal(again.barriers(), found.barriers())
    assert found.to_dict()["task"] == CLASSIFICATION.to_dict()
    with pytest.raises(ValueError, match="read-only"):
        found.t[0] = 1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"moved": "all"}, "moved must be one of 'alone', 'with those before'"),
     ({"t": [0.0, 0.5]}, "t must go from 0 to 1, got points from 0 to 0.5"),
     ({"b": {"w0": 1}}, "b"),
     ({"statistics": mcjax.evaluation.Statistics(np.zeros(1), {})}, "Statistics are of one path")],
)  # fmt: skip
def test_mistakes_are_said(options, message):
    a = network_of(deep, 0)
    network = mcjax.trace(deep, a, data()[0])
    given = {"b": a, "t": 3, **options}
    with pytest.raises(ValueError, match=message):
        evaluate_layers(network, a, given.pop("b"), data(), given.pop("t"), **given)
