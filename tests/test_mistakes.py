"""Mistakes that users make in Python: the message names what came and the remedy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.training import Protocol, train_networks


def apply_fn(params, x):
    return jax.nn.relu(x @ params["w1"]) @ params["w2"]


def with_statistics(params, x):
    h = (x @ params["w1"] - params["mean"]) / jnp.sqrt(params["var"] + 1e-5)
    return jax.nn.relu(h) @ params["w2"]


def init(key):
    first, second = jax.random.split(key)
    return {"w1": jax.random.normal(first, (4, 5)), "w2": jax.random.normal(second, (5, 3))}


A, B = (init(jax.random.key(seed)) for seed in (0, 1))
X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
Y = np.arange(12) % 3
NETWORK = mcjax.trace(apply_fn, A, X, check=False)
LINE = mcjax.path.Linear(A, B)
NORMALISED = mcjax.path.Linear(
    *({**p, "mean": jnp.zeros(5), "var": jnp.full(5, v)} for p, v in ((A, 1.0), (B, 2.0)))
)

MISTAKES = {
    "parameters under a key": (
        lambda: mcjax.connect(NETWORK, {"params": A}, {"params": B}, "linear"),
        r"the traced parameters is what a has under 'params'",
    ),
    "parameters without their key": (
        lambda: mcjax.path.Linear({"params": A}, B),
        r"b is what a has under 'params'",
    ),
    "parameters of another model": (
        lambda: mcjax.evaluate(mcjax.path.Linear({"v": A}, {"v": B}), apply_fn, (X, Y)),
        r"KeyError: 'w1'. The leaves of the parameters are 'v/w1', 'v/w2'",
    ),
    "results for parameters": (
        lambda: mcjax.path.Linear(*(mcjax.canonicalize(NETWORK, p) for p in (A, B))),
        r"a is a Canonical, pass its \.params",
    ),
    "a seed for a key": (
        lambda: mcjax.Action.random(NETWORK, 0),
        r"key must be a random key, as jax.random.key\(0\), got 0",
    ),
    "an action learned with another task": (
        lambda: mcjax.align.learn_action(
            NETWORK,
            A,
            B,
            (X, Y),
            mcjax.align.ActionSearch(Protocol(1, batch=4)),
            key=jax.random.key(0),
            task=mcjax.tasks.REGRESSION,
        ),
        r"regression needs targets of the outputs' shape \(12, 3\), got shape \(12,\)",
    ),
    "inputs of another width": (
        lambda: mcjax.evaluate(LINE, apply_fn, (X[:, :3], Y)),
        r"model fails on inputs of shape x \(12, 3\): TypeError: dot_general",
    ),
    "x and y swapped": (
        lambda: mcjax.evaluate(LINE, apply_fn, (Y, X)),
        r"model fails on inputs of shape x \(12,\)",
    ),
    "x and y apart": (
        lambda: mcjax.evaluate(LINE, apply_fn, X, Y),
        r"data must be \(x, y\), got a ndarray",
    ),
    "path and model swapped": (
        lambda: mcjax.evaluate(apply_fn, LINE, (X, Y)),
        r"got function; the order is mcjax.evaluate\(path, model, data\)",
    ),
    "a network for a path": (
        lambda: mcjax.evaluate(A, apply_fn, (X, Y)),
        "got dict; the segment between two networks is mcjax.path.Linear",
    ),
    "data for statistics": (
        lambda: mcjax.evaluate(NORMALISED, with_statistics, (X, Y), statistics=(X, Y)),
        r"statistics must be inputs such as x, .* of shape \(12, 4\), .* a tuple of 2",
    ),
    "True for statistics": (
        lambda: mcjax.evaluate(NORMALISED, with_statistics, (X, Y), statistics=True),
        "statistics must be inputs .* got a bool, True",
    ),
    "a path for a plane": (
        lambda: mcjax.evaluation.evaluate_plane(LINE, apply_fn, (X, Y)),
        r"plane must be a mcjax.evaluation.Plane, as Plane.through\(a, b, c\); got a Linear",
    ),
    "data for inputs": (
        lambda: mcjax.align.match_activations(NETWORK, A, B, (X, Y)),
        r"x: apply_fn fails on inputs of shape 0 \(12, 4\), 1 \(12,\)",
    ),
    "labels for inputs": (
        lambda: mcjax.connect(NETWORK, A, B, "ot+wa", x=Y),
        r"x: apply_fn fails on inputs of shape x \(12,\)",
    ),
    "x and y apart in a comparison": (
        lambda: mcjax.study.compare(NETWORK, A, B, X, Y),
        r"train must be \(x, y\), got a ndarray",
    ),
    "only test inputs": (
        lambda: mcjax.study.compare(NETWORK, A, B, (X, Y), X),
        r"test must be \(x, y\), got a ndarray",
    ),
    "value and file swapped": (
        lambda: mcjax.save(A, "a.safetensors"),
        r"file must be the name of a file, got a dict; it is mcjax.save\(file, value\)",
    ),
    "a value to load": (lambda: mcjax.load(A), "got a dict; it is mcjax.load"),
    "parameters for init": (
        lambda: train_networks(apply_fn, A, (X, Y), (0, 1), Protocol(epochs=1, batch=4)),
        "init must be a function key → parameters, .* got a dict$",
    ),
    "a number of seeds": (
        lambda: train_networks(apply_fn, init, (X, Y), 3, Protocol(epochs=1, batch=4)),
        "seeds must be a sequence, one network each, .* got 3",
    ),
}


@pytest.mark.parametrize("which", list(MISTAKES))
def test_the_message_names_what_came(which):
    call, message = MISTAKES[which]
    with pytest.raises(ValueError, match=message):
        call()


def test_inputs_of_other_shapes_that_the_model_takes():
    def pooled(params, x):
        return apply_fn(params, x.mean(1))

    network = mcjax.trace(pooled, A, np.zeros((2, 3, 4), np.float32), check=False)
    longer = np.repeat(X[:, None], 7, 1)
    found = mcjax.align.match_activations(network, A, B, longer).permutations["w1"]
    expected = mcjax.align.match_activations(NETWORK, A, B, X).permutations["w1"]
    np.testing.assert_array_equal(found, expected)


def test_results_print_in_a_line():
    matching = mcjax.align.match_weights(NETWORK, A, B)
    curve = mcjax.evaluate(LINE, apply_fn, (X, Y), t=3)
    plane = mcjax.evaluation.Plane.through(A, B, init(jax.random.key(2)))
    for value in (
        matching, curve, mcjax.connect(NETWORK, A, B, "ot"), curve.task,
        mcjax.align.match_many(NETWORK, [A, B]),
        mcjax.evaluation.evaluate_plane(plane, apply_fn, (X, Y), size=2),
    ):  # fmt: skip
        assert repr(value).startswith(type(value).__name__)
        assert len(repr(value)) < 120
        assert "\n" not in repr(value)
    assert repr(curve) == "Curve(3 points; classification: loss, accuracy)"
