"""Misuse that once gave a wrong number, another library's words, or memory that never came back."""

from __future__ import annotations

import copy
import pickle
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax import _compiled
from mcjax.evaluation import evaluate_points, metrics_at
from mcjax.network import activations
from mcjax.tasks import CLASSIFICATION, cross_entropy
from mcjax.training import Protocol, train_networks

from .conftest import alive


def model(p, x):
    return jnp.tanh(x @ p["w1"]) @ p["w2"]


def parameters(seed):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (4, 5), "w2": (5, 3)}
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


A, B = parameters(0), parameters(1)
X = np.random.default_rng(2).normal(size=(6, 4)).astype(np.float32)
Y = np.arange(6) % 3
NETWORK = mcjax.trace(model, A, X[:2])
PATH = mcjax.path.Linear(A, B)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_label_that_is_no_class_is_nan_where_no_check_sees_it(wrong):
    at = jax.jit(lambda y: metrics_at(PATH, model, (X, y), jnp.array([0.0, 1.0])))
    assert np.isfinite(at(Y)["loss"]).all()
    found = at(np.where(Y == 0, wrong, Y))
    assert all(np.isnan(v).all() for v in found.values())
    # The others of the batch keep theirs.
    values = CLASSIFICATION.values(model(A, X), jnp.where(Y == 0, wrong, Y))
    np.testing.assert_array_equal(np.isnan(values["loss"]), Y == 0)
    np.testing.assert_array_equal(np.isnan(values["accuracy"]), Y == 0)
    logits = np.asarray(model(A, X), np.float64)
    direct = np.log(np.exp(logits).sum(1)) - logits[np.arange(6), Y]
    np.testing.assert_allclose(cross_entropy(model(A, X), Y), direct, rtol=1e-5)


def test_one_row_of_outputs_for_the_whole_batch():
    def error(outputs, y):
        return jnp.mean((outputs - y) ** 2, -1)

    task = mcjax.Task("my own", {"loss": error}, {"loss": "high"})

    def one_row(p, x):
        return model(p, x).mean(0, keepdims=True)

    targets = np.zeros((6, 3), np.float32)
    assert mcjax.evaluate(PATH, model, (X, targets), 2, task=task).loss.shape == (2,)
    with pytest.raises(ValueError, match="one row for a batch of 6"):
        mcjax.evaluate(PATH, one_row, (X, targets), 2, task=task)
    mcjax.evaluate(PATH, one_row, (X[:1], targets[:1]), 2, task=task)  # of one it is right


def test_batches_that_are_lists():
    whole = mcjax.evaluate(PATH, model, (X, Y), 3).loss
    for cut in ([[X[:2], Y[:2]], [X[2:], Y[2:]]], [(X[:5], Y[:5]), (X[5:], Y[5:])]):
        np.testing.assert_allclose(mcjax.evaluate(PATH, model, cut, 3).loss, whole, rtol=1e-6)
    np.testing.assert_allclose(mcjax.evaluate(PATH, model, [X, Y], 3).loss, whole, rtol=1e-6)
    with pytest.raises(ValueError, match=r"different batches have different shapes: \(3,\) and"):
        mcjax.evaluate(PATH, model, [(X, Y), (X[:, :3], Y)], 3)


@pytest.mark.parametrize("t", [None, True])
def test_what_is_no_t(t):
    with pytest.raises(ValueError, match="t must be a number of points or an array"):
        mcjax.evaluate(PATH, model, (X, Y), t)


HOST = {
    "trace": lambda b: mcjax.trace(model, b, X[:2]).template["w1"],
    "evaluate": lambda b: mcjax.evaluate(mcjax.path.Linear(A, b), model, (X, Y), 2).loss,
    "evaluate_points": lambda b: evaluate_points(mcjax.path.Linear(A, b), model, (X, Y), [0.0]),
    "connect": lambda b: mcjax.connect(NETWORK, A, b, "ot").path(0.5),
    "match_weights": lambda b: mcjax.align.match_weights(NETWORK, A, b).permutations,
    "match_activations": lambda b: mcjax.align.match_activations(NETWORK, A, b, X).permutations,
    "wa_ensemble": lambda b: mcjax.merge.wa_ensemble(NETWORK, [A, b], X).networks,
    "independent": lambda b: mcjax.merge.independent(NETWORK, [A, b]).networks,
    "solve_layers": lambda b: mcjax.adjust.solve_layers(NETWORK, A, b, X, layers=["w2"]).params,
    "soup": lambda b: mcjax.merge.soup(NETWORK, [A, b]),
    "through": lambda b: mcjax.evaluation.Plane.through(A, b, parameters(3)).origin,
    "save": lambda b: mcjax.save("never-written.safetensors", b),
}


@pytest.mark.parametrize("name", HOST)
@pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
def test_what_works_on_the_host_says_so(name, transform):
    b = jax.tree.map(lambda v: v[None], B) if transform is jax.vmap else B
    with pytest.raises(ValueError, match=f"^{name} works on the host"):
        transform(HOST[name])(b)


def test_networks_and_actions_are_their_own_copies():
    action = mcjax.Action.random(NETWORK, jax.random.key(0))
    for value in (NETWORK, action):
        assert copy.copy(value) is value
        assert copy.deepcopy(value) is value
        with pytest.raises(TypeError, match=r"cannot be pickled; .*pickle"):
            pickle.dumps(value)
    made = copy.deepcopy(mcjax.connect(NETWORK, A, B, "ot"))
    assert made.network is NETWORK
    np.testing.assert_array_equal(made.path(1.0)["w1"], made.action(B)["w1"])


USES = {
    "activations": lambda network, a: network.activations(a, X),
    "layer inputs": lambda network, a: network.layer_inputs(a, X),
    "matching": lambda network, a: mcjax.align.match_activations(network, a, B, X),
    "training": lambda network, a: train_networks(
        network.apply_fn, lambda key: A, (X, Y), seeds=(0,), protocol=Protocol(1, 3)
    ),
}


@pytest.mark.parametrize("use", USES)
def test_networks_are_let_go(use, monkeypatch):
    monkeypatch.setattr(_compiled, "KEPT", 2)
    functions = []
    for i in range(6):
        network = mcjax.trace(lambda p, x, i=i: model(p, x) + i, A, X[:2])
        USES[use](network, A)
        functions.append(weakref.ref(network.apply_fn))
        del network
    activations._analysis.cache_clear()  # bounded by itself: programs for other batch lengths
    assert alive(functions, 3) <= 3


def test_matrices_that_are_not_square():
    for relax in (mcjax.transport.sinkhorn, mcjax.transport.project):
        with pytest.raises(ValueError, match=r"must be square.*\(2, 3\)"):
            relax(jnp.ones((2, 3)))
        np.testing.assert_allclose(relax(np.zeros((2, 2))), 0.5)  # float64 without a warning
