"""Wrong arguments of aligners end in a sentence that names them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.align import (
    correlation_signature,
    match_activations,
    match_butterflies,
    match_many,
    match_weights,
)

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


def mlp(p, x):
    return jax.nn.relu(x @ p["w1"]) @ p["w2"]


def params(seed):
    rng = np.random.default_rng(seed)
    return {k: rng.normal(size=s).astype(np.float32) for k, s in (("w1", (4, 5)), ("w2", (5, 3)))}


A, B = params(0), params(1)
NETWORK = mcjax.trace(mlp, A, X)

ALIGNERS = {
    "match_activations": lambda n, a, b, **k: match_activations(n, a, b, X, **k),
    "correlation_signature": lambda n, a, b, **k: correlation_signature(n, a, b, X, **k),
    "match_weights": match_weights,
    "match_butterflies": match_butterflies,
    "match_many": lambda n, a, b, **k: match_many(n, [a, b], **k),
}


@pytest.mark.parametrize("aligner", ALIGNERS.values(), ids=ALIGNERS)
@pytest.mark.parametrize(
    ("given", "got"),
    [((mlp, A, B), "a function"), ((A, NETWORK, B), "a dict"), ((None, A, B), "a NoneType")],
)
def test_what_is_no_network(aligner, given, got):
    with pytest.raises(ValueError, match=rf"network must be a mcjax\.Network.*got {got}"):
        aligner(*given)


SOLVED = {n: a for n, a in ALIGNERS.items() if n != "correlation_signature"}


@pytest.mark.parametrize("aligner", SOLVED.values(), ids=SOLVED)
@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ("exact", r"got 'exact'; pass the object mcjax\.transport\.Exact\(\)"),
        ("sinkhorn", r"pass the object mcjax\.transport\.Sinkhorn\(\)"),
        (mcjax.transport.Exact, r"pass an object, Exact\(\)"),
        (None, "got None"),
    ],
)
def test_what_is_no_solver(aligner, solver, message):
    with pytest.raises(ValueError, match=r"^solver must be a mcjax\.transport\.Solver.*" + message):
        aligner(NETWORK, A, B, solver=solver)


@pytest.mark.parametrize("aligner", SOLVED.values(), ids=SOLVED)
def test_every_aligner_takes_sinkhorn(aligner):
    solver = mcjax.transport.Sinkhorn(0.05, iterations=10_000)
    p = NETWORK.random_permutations(jax.random.key(1))
    found = aligner(NETWORK, A, NETWORK.permute(p, A), solver=solver)
    last = found.permutations[-1] if isinstance(found.permutations, tuple) else found.permutations
    back = mcjax.Action.of(NETWORK, p).inverse().permutations
    np.testing.assert_array_equal(last["w1"], back["w1"])
    # Cauchy and Schwarz prove an optimum, however it was found.
    proved = aligner in (match_weights, SOLVED["match_many"])
    assert found.status == ("optimal" if proved else "entropic")


@pytest.mark.parametrize("aligner", [match_weights, SOLVED["match_many"]])
@pytest.mark.parametrize(
    ("key", "got"),
    [
        (3, "got 3"), ("a", "got 'a'"), (np.arange(3), r"of shape \(3,\)"),
        (jax.random.split(jax.random.key(0), 2), r"of shape \(2,\)"),
    ],
)  # fmt: skip
def test_what_is_no_key(aligner, key, got):
    with pytest.raises(ValueError, match="key must be a random key.*" + got):
        aligner(NETWORK, A, B, key=key)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ([0, 1], "init: permutations must be a mcjax.Action, or map names .* got a list"),
        (np.arange(5), "got a ndarray"),
        ({"w9": np.arange(5)}, "init: permutations: unknown group 'w9'"),
        ({"w1": np.arange(4)}, r"init: permutations\['w1'\] has shape \(4,\), expected \(5,\)"),
        ({"w1": np.zeros(5, int)}, r"init: permutations\['w1'\] is no permutation of 0 … 4"),
        ({"w1": np.arange(5) + 0.5}, r"init: permutations\['w1'\]"),
    ],
)
def test_wrong_starts(init, message):
    with pytest.raises(ValueError, match=message):
        match_weights(NETWORK, A, B, init=init)


def test_what_shows_no_progress():
    with pytest.raises(ValueError, match=r"progress must be a function of a line.*got True"):
        match_weights(NETWORK, A, B, progress=True)


def test_an_empty_start_is_the_identity():
    first = match_weights(NETWORK, A, B, init={})
    second = match_weights(NETWORK, A, B, init=NETWORK.identity_permutations())
    assert first.after == second.after == match_weights(NETWORK, A, B).after
    assert first.status == "optimal"  # one group: whatever the start


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([1.0, 2.0], "x: no leaf holds a batch"),
        ("data", "x: leaf .* is a str"),
        (None, "x"),
        ([[0.0] * 4] * 20, "x"),
    ],
)
def test_wrong_inputs(x, message):
    for call in (match_activations, correlation_signature):
        with pytest.raises(ValueError, match=message):
            call(NETWORK, A, B, x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": "w1"}, "groups must be a sequence of names, got the string 'w1'"),
        ({"groups": ["w9"]}, "groups must be one of 'w1', got 'w9'"),
        ({"leaves": [2]}, "leaves must be numbers of 0 … 1, got 2"),
        ({"leaves": ["w1"]}, "leaves must be numbers of 0 … 1, got 'w1'"),
    ],
)
def test_wrong_choices(arguments, message):
    with pytest.raises(ValueError, match=message):
        match_butterflies(NETWORK, A, B, **arguments)


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ({"a": A, "b": B}, "networks must be a sequence of parameter trees, got a dict"),
        (A, "networks must be a sequence of parameter trees, got a dict"),
        ([A], "at least two are needed, got 1"),
        ([A, {"w1": A["w1"]}], r"networks\[1\]"),
    ],
)
def test_wrong_networks(networks, message):
    with pytest.raises(ValueError, match=message):
        match_many(NETWORK, networks)


def test_restarts_and_chunks():
    for restarts in (0, 1.5, True):
        with pytest.raises(ValueError, match="restarts must be a positive integer"):
            match_weights(NETWORK, A, B, restarts=restarts)
    with pytest.raises(ValueError, match="NaN"):
        match_weights(NETWORK, A, {**B, "w2": jnp.asarray(B["w2"]).at[0, 0].set(jnp.nan)})
