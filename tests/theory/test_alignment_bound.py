"""The bounds of Theorem 3.1 against what they bound."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import mcjax
from mcjax.align import match_activations
from mcjax.data import load
from mcjax.models import MLP
from mcjax.theory import alignment_bound
from mcjax.training import Protocol, train_networks

from ..align.test_matching import inputs, mlp, random_mlp
from ..conftest import traced


def trained():
    data = load("digits").flat()
    model = MLP((20, 15))
    sets = (data.x_train, data.y_train)
    a, b = train_networks(
        model.apply, lambda k: model.init(k, data.x_train[:1]), sets, (0, 1), Protocol(10, 64, 0.05)
    )
    return mcjax.trace(model.apply, a, data.x_train[:2]), model, sets, a, b


def test_alignment_tightens_the_bound_and_the_loss_is_below_it():
    network, model, sets, a, b = trained()
    matching = match_activations(network, a, b, sets[0], "l2", "pre", chunk=len(sets[0]))
    aligned = network.permute(matching.permutations, b)
    bounds = [alignment_bound(network, a, end, sets, 11) for end in (b, aligned)]
    assert (bounds[1].loss <= bounds[0].loss + 1e-6).all()
    assert (bounds[1].layers <= bounds[0].layers + 1e-4).all()
    assert bounds[1].mean < bounds[0].mean
    for end, bound in zip((b, aligned), bounds, strict=True):
        line = mcjax.path.Linear(a, end)
        curve = mcjax.evaluate(line, model.apply, sets, 11)
        assert (curve.loss <= bound.loss + 1e-5).all()
        for i, layer in enumerate(network.layers[:-1]):
            for k in (3, 8):
                here, start = (
                    network.layer_outputs(p, sets[0])[layer.name] for p in (line(bound.t[k]), a)
                )
                assert np.linalg.norm(here - start) <= bound.layers[i, k] + 1e-3
        chord = [np.asarray(model.apply(p, sets[0])) for p in (line(bound.t[4]), a, end)]
        t = bound.t[4]
        off = np.linalg.norm(chord[0] - (1 - t) * chord[1] - t * chord[2])
        assert off <= bound.output[4]


def test_recursion_in_numpy():
    a, b = random_mlp((5, 6, 4, 3), 0), random_mlp((5, 6, 4, 3), 1)
    x, y = inputs(30, 5), np.arange(30) % 3
    network = mcjax.trace(mlp, a, x)
    found = alignment_bound(network, a, b, (x, y), [0.25])

    def pre(params):
        h, out = x, []
        for layer in params:
            z = h @ np.asarray(layer["w"]) + np.asarray(layer["b"])
            out.append(z)
            h = np.maximum(z, 0)
        return out

    t, fa, fb = 0.25, pre(a), pre(b)
    norm = lambda w: np.linalg.svd(np.asarray(w))[1][0]
    d0, d1 = (s * np.linalg.norm(fa[0] - fb[0]) for s in (t, 1 - t))
    carried = (1 - t) * norm(a[1]["w"]) * d0 + t * norm(b[1]["w"]) * d1
    gap = np.linalg.norm(fa[1] - fb[1])
    d0, d1 = carried + t * gap, carried + (1 - t) * gap
    np.testing.assert_allclose(found.layers[1, 0], d0, rtol=1e-4)
    output = (1 - t) * norm(a[2]["w"]) * d0 + t * norm(b[2]["w"]) * d1
    np.testing.assert_allclose(found.output[0], output, rtol=1e-4)
    assert found.layers.shape == (2, 1)


@pytest.mark.parametrize("name", ["convnet", "layernorm", "resnet-pad", "transformer"])
def test_other_networks_are_refused(name):
    case, network = traced(name)
    with pytest.raises(ValueError, match="chain of dense layers, and this is none"):
        alignment_bound(network, case.params, case.params, (case.x, np.zeros(len(case.x), int)))


def test_bad_data():
    a = random_mlp((5, 6, 3), 0)
    network = mcjax.trace(mlp, a, inputs(2, 5))
    with pytest.raises(ValueError, match="different lengths: 4 and 3"):
        alignment_bound(network, a, a, (inputs(4, 5), np.zeros(3, int)))
    with pytest.raises(ValueError, match="empty batch"):
        alignment_bound(network, a, a, (inputs(0, 5), np.zeros(0, int)))
    assert jax.numpy.isfinite(alignment_bound(network, a, a, (inputs(4, 5), np.zeros(4, int))).mean)


def test_the_bound_is_one_of_cross_entropy():
    a, b = random_mlp((6, 8, 3), 0), random_mlp((6, 8, 3), 1)
    x = inputs(20, 6)
    network = mcjax.trace(mlp, a, x)
    for wrong in (np.zeros((20, 3), np.float32), np.arange(20), np.zeros(20, np.float32)):
        with pytest.raises(ValueError, match="y: "):
            alignment_bound(network, a, b, (x, wrong))
