"""Proximal alternating minimisation and learned alignments."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.align import Projection, SinkhornRelaxation, StraightThrough, learn_permutations
from mcjax.data import load
from mcjax.methods import pam
from mcjax.models import MLP
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


def test_the_objective_falls_monotonically():
    """Theorem E.1: Q(φ⁺, P⁺) + proximal terms ≤ Q(φ, P), step after step."""
    a, b = smooth(0), smooth(1)
    network = mcjax.trace(tanh, a, DATA.x_train[:2])
    found = pam(
        network, a, b, SETS, PROTOCOL, key=jax.random.key(0), iterations=3,
        permutation_protocol=Protocol(2, 64, 0.05), candidates=4,
    )  # fmt: skip
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
    found = learn_permutations(
        network, a, b, SETS, Protocol(6, 64, 1.0 if relaxation == Projection() else 0.03),
        key=jax.random.key(0), relaxation=relaxation,
    )  # fmt: skip
    if relaxation != SinkhornRelaxation():  # which finds another permutation that lowers the loss
        np.testing.assert_array_equal(found.permutations[name], swap[name])
    assert found.after["total"] < found.before["total"]
    assert found.minimised


def test_the_previous_permutation_is_a_candidate():
    """From the aligned start of a network and itself nothing can be better."""
    a = smooth(0)
    network = mcjax.trace(tanh, a, DATA.x_train[:2])
    found = learn_permutations(network, a, a, SETS, PROTOCOL, key=jax.random.key(0))
    assert found.after["total"] <= found.before["total"]
    assert found.metadata["candidates"] == 34


def test_groups_of_size_one():
    """A single unit is no group: with nothing to permute PAM says so."""
    a, b = smooth(0, 1), smooth(1, 1)
    network = mcjax.trace(tanh, a, DATA.x_train[:2])
    with pytest.raises(ValueError, match="nothing can be permuted"):
        pam(network, a, b, SETS, PROTOCOL, key=jax.random.key(0))


def test_interrupted_runs_go_on(tmp_path):
    a, b = smooth(0), smooth(1)
    network = mcjax.trace(tanh, a, DATA.x_train[:2])
    brief = Protocol(2, 64, 0.05)
    arguments = dict(key=jax.random.key(0), permutation_protocol=brief, candidates=2)
    whole = pam(network, a, b, SETS, PROTOCOL, **arguments)

    def stop(step, epoch, loss):
        if step == "curve" and epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pam(network, a, b, SETS, PROTOCOL, directory=tmp_path, progress=stop, **arguments)
    seen = []
    again = pam(
        network, a, b, SETS, PROTOCOL, directory=tmp_path,
        progress=lambda step, epoch, loss: seen.append((step, epoch)), **arguments,
    )  # fmt: skip
    assert seen == [("curve", 2)]
    jax.tree.map(np.testing.assert_array_equal, again.path, whole.path)


def test_bad_arguments():
    a, b = smooth(0), smooth(1)
    network = mcjax.trace(tanh, a, DATA.x_train[:2])
    with pytest.raises(ValueError, match="proximal must be positive, got 0"):
        pam(network, a, b, SETS, PROTOCOL, key=jax.random.key(0), proximal=0)
    with pytest.raises(ValueError, match="iterations must be a positive integer"):
        pam(network, a, b, SETS, PROTOCOL, key=jax.random.key(0), iterations=0)
    with pytest.raises(ValueError, match="relaxation must be an object"):
        learn_permutations(
            network, a, b, SETS, PROTOCOL, key=jax.random.key(0), relaxation="sinkhorn"
        )
    with pytest.raises(ValueError, match="temperature must be positive"):
        SinkhornRelaxation(0.0)
    with pytest.raises(ValueError, match="y: regression needs targets"):
        pam(network, a, b, SETS, PROTOCOL, key=jax.random.key(0), task=mcjax.tasks.REGRESSION)
    with pytest.raises(ValueError, match=r"network must be a mcjax\.Network"):
        pam(tanh, a, b, SETS, PROTOCOL, key=jax.random.key(0))
    with pytest.raises(ValueError, match="key must be"):
        learn_permutations(network, a, b, SETS, PROTOCOL, key=3)
    other = {**b, "w2": jnp.ones((6, 9))}
    with pytest.raises(ValueError, match=r"leaf 'w2' has shape \(6, 9\), expected \(6, 10\)"):
        pam(network, a, other, SETS, PROTOCOL, key=jax.random.key(0))
