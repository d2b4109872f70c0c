"""Proximal alternating minimisation and learned alignments."""

from __future__ import annotations

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.align import (
    Projection,
    Search,
    SinkhornRelaxation,
    StraightThrough,
    learn_permutations,
)
from mcjax.data import load
from mcjax.methods import Pam, Problem
from mcjax.models import MLP
from mcjax.path import Linear, Transported
from mcjax.training import Protocol, train_networks

DATA = load("digits").flat()
SETS = (DATA.x_train, DATA.y_train)
PROTOCOL = Protocol(3, 64, 0.1)


def tanh(params, x):
    """A smooth network, as Theorem E.1 asks for."""
    return jnp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"]


def smooth(seed, hidden=6):
    rng = np.random.default_rng(seed)
    sizes = {"w1": (64, hidden), "b1": (hidden,), "w2": (hidden, 10)}
    return {n: jnp.asarray(rng.normal(size=s) * 0.2, jnp.float32) for n, s in sizes.items()}


def problem(network, a, b, key=None, **more):
    return Problem(network, a, b, *SETS, jax.random.key(0) if key is None else key, **more)


def test_the_objective_falls_monotonically():
    """Theorem E.1: Q(φ⁺, P⁺) + proximal terms ≤ Q(φ, P), step after step."""
    a, b = smooth(0), smooth(1)
    network = mcjax.trace(tanh, a, DATA.x_train[:2])
    method = Pam(PROTOCOL, iterations=3, permutation_protocol=Protocol(2, 64, 0.05), candidates=4)
    found = method.minimise(problem(network, a, b))
    assert found.objective.shape == found.proximal.shape == (7,)
    assert (found.proximal >= 0).all()
    steps = found.objective[1:] + found.proximal[1:] - found.objective[:-1]
    assert (steps <= 1e-5).all()
    assert found.objective[-1] < found.objective[0]
    end = network.permute(found.permutations, b)
    jax.tree.map(np.testing.assert_array_equal, found.path(1.0), end)
    jax.tree.map(np.testing.assert_array_equal, found.path(0.0), a)


@cache
def swappable():
    """A network that its units matter to."""
    model = MLP((8,))
    (a,) = train_networks(
        model.apply, lambda k: model.init(k, DATA.x_train[:1]), SETS, (0,), Protocol(15, 64, 0.1)
    )
    return mcjax.trace(model.apply, a, DATA.x_train[:2]), a


@pytest.mark.parametrize(
    "relaxation", [Projection(), SinkhornRelaxation(), StraightThrough()], ids=repr
)
def test_a_swapped_pair_is_found(relaxation):
    """B is A with two units exchanged: putting them back is what lowers the loss most."""
    network, a = swappable()
    (name,) = network.groups
    swap = {name: np.array([0, 1, 5, 3, 4, 2, 6, 7])}
    b = network.permute(swap, a)
    protocol = Protocol(6, 64, 1.0 if relaxation == Projection() else 0.03)
    found = learn_permutations(
        Transported.between(network, a, b), SETS, Search(protocol, relaxation),
        key=jax.random.key(0),
    )  # fmt: skip
    if relaxation != SinkhornRelaxation():  # which finds another permutation that lowers the loss
        np.testing.assert_array_equal(found.permutations[name], swap[name])
    assert found.after["total"] < found.before["total"]
    assert found.minimised


def test_the_previous_permutation_is_a_candidate():
    """From the aligned start of a network and itself nothing can be better."""
    a = smooth(0)
    network = mcjax.trace(tanh, a, DATA.x_train[:2])
    start = Transported.between(network, a, a)
    found = learn_permutations(start, SETS, Search(PROTOCOL), key=jax.random.key(0))
    assert found.after["total"] <= found.before["total"]
    assert found.metadata["candidates"] == 34


def test_groups_of_size_one():
    """A single unit is no group: with nothing to permute PAM says so."""
    a, b = smooth(0, 1), smooth(1, 1)
    network = mcjax.trace(tanh, a, DATA.x_train[:2])
    with pytest.raises(ValueError, match="nothing can be permuted"):
        Pam(PROTOCOL).minimise(problem(network, a, b))


def test_the_start_is_where_the_search_begins():
    """B is A permuted: the start that undoes it has the objective of A and itself."""
    network, a = swappable()
    (name,) = network.groups
    swap = {name: np.array([0, 1, 5, 3, 4, 2, 6, 7])}
    b = network.permute(swap, a)
    search = Search(dataclasses.replace(PROTOCOL, epochs=1, learning_rate=0.0), candidates=1)
    found = [
        learn_permutations(path, SETS, search, key=jax.random.key(0))
        for path in (Transported.between(network, a, b, swap), Transported.between(network, a, a))
    ]
    np.testing.assert_array_equal(found[0].permutations[name], swap[name])
    assert found[0].before["total"] == pytest.approx(found[1].before["total"], rel=1e-5)
    shown = Pam(PROTOCOL, permutation_protocol=search.protocol, candidates=1)
    made = shown.minimise(problem(network, a, b), start=swap)
    assert made.objective[0] == pytest.approx(found[1].before["total"], rel=1e-5)


def test_interrupted_runs_go_on(tmp_path):
    a, b = smooth(0), smooth(1)
    network = mcjax.trace(tanh, a, DATA.x_train[:2])
    brief = Protocol(2, 64, 0.05)
    method, pair = Pam(PROTOCOL, permutation_protocol=brief, candidates=2), problem(network, a, b)
    whole = method.minimise(pair)

    def stop(step, epoch, loss):
        if step == "curve" and epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        method.minimise(pair, directory=tmp_path, progress=stop)
    seen = []
    again = method.minimise(
        pair, directory=tmp_path, progress=lambda step, epoch, loss: seen.append((step, epoch))
    )
    assert seen == [("curve", 2)]
    jax.tree.map(np.testing.assert_array_equal, again.path, whole.path)


def test_longer_runs_go_on(tmp_path):
    """Of a rate that does not know how many epochs there are: as in one run of all of them."""
    pair = problem(mcjax.trace(tanh, smooth(0), DATA.x_train[:2]), smooth(0), smooth(1))
    brief = Protocol(1, 64, 0.05, halve_every=1)
    short, long = (
        Pam(Protocol(n, 64, 0.1, halve_every=1), permutation_protocol=brief, candidates=2)
        for n in (1, 2)
    )
    short.minimise(pair, directory=tmp_path)
    seen = []
    found = long.minimise(pair, directory=tmp_path, progress=lambda *step: seen.append(step[:2]))
    assert seen == [("curve", 1)]
    jax.tree.map(np.testing.assert_array_equal, found.path, long.minimise(pair).path)


def test_bad_arguments():
    a, b = smooth(0), smooth(1)
    network = mcjax.trace(tanh, a, DATA.x_train[:2])
    with pytest.raises(ValueError, match="proximal must be positive, got 0"):
        Pam(PROTOCOL, proximal=0)
    with pytest.raises(ValueError, match="proximal must be positive, got -1"):
        Search(PROTOCOL, proximal=-1)
    with pytest.raises(ValueError, match="candidates must be a positive integer"):
        Search(PROTOCOL, candidates=0)
    with pytest.raises(ValueError, match="iterations must be a positive integer"):
        Pam(PROTOCOL, iterations=0)
    with pytest.raises(ValueError, match="relaxation must be an object"):
        Search(PROTOCOL, "sinkhorn")
    with pytest.raises(ValueError, match=r"protocol must be a mcjax\.training\.Protocol"):
        Search(3)
    with pytest.raises(ValueError, match="temperature must be positive"):
        SinkhornRelaxation(0.0)
    with pytest.raises(ValueError, match="y: regression needs targets"):
        Pam(PROTOCOL).minimise(problem(network, a, b, task=mcjax.tasks.REGRESSION))
    with pytest.raises(ValueError, match=r"network must be a mcjax\.Network"):
        Pam(PROTOCOL).minimise(problem(tanh, a, b))
    start, key = Transported.between(network, a, b), jax.random.key(0)
    with pytest.raises(ValueError, match="key must be"):
        learn_permutations(start, SETS, Search(PROTOCOL), key=3)
    with pytest.raises(ValueError, match=r"search must be a mcjax\.align\.Search"):
        learn_permutations(start, SETS, PROTOCOL, key=key)
    with pytest.raises(ValueError, match=r"path must be a mcjax\.path\.Transported"):
        learn_permutations(Linear(a, b), SETS, Search(PROTOCOL), key=key)
    mixed = start.with_free({n: m * 0.9 for n, m in start.matrices.items()})
    with pytest.raises(ValueError, match="path must start at permutations"):
        learn_permutations(mixed, SETS, Search(PROTOCOL), key=key)
    other = {**b, "w2": jnp.ones((6, 9))}
    with pytest.raises(ValueError, match=r"leaf 'w2' has shape \(6, 9\), expected \(6, 10\)"):
        Pam(PROTOCOL).minimise(problem(network, a, other))
    with pytest.raises(ValueError, match=r"leaf 'w2' has shape \(6, 9\), expected \(6, 10\)"):
        Transported.between(network, a, other)
