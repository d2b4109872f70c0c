"""Programs of their own for parts of a path, or one for all: what is compiled, and that it is one
result."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.evaluation import worth
from mcjax.evaluation.worth import Worth
from mcjax.path import Legs, Linear, Partial
from mcjax.path.sharing import saved_work

from ..test_compiles import Compiled

WIDTH, N = 40, 96


def deep(p, x):
    for w, b in p[:-1]:
        x = jax.nn.relu(x @ w + b)
    return x @ p[-1][0] + p[-1][1]


def drawn(depth, seed):
    rng = np.random.default_rng(seed)
    shapes = [(WIDTH, WIDTH)] * depth + [(WIDTH, 3)]
    draw = lambda *s: jnp.asarray(rng.normal(size=s) / 6, jnp.float32)
    return [(draw(*s), draw(s[1])) for s in shapes]


def data(n=N):
    rng = np.random.default_rng(7)
    return rng.normal(size=(n, WIDTH)).astype(np.float32), rng.integers(0, 3, n)


def oracle(p, x, y):
    """Cross entropy in float64."""
    p = jax.tree.map(lambda v: np.asarray(v, np.float64), p)
    for w, b in p[:-1]:
        x = np.maximum(x @ w + b, 0)
    z = x @ p[-1][0] + p[-1][1]
    return (np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]).mean()


def layer_by_layer(a, b):
    """A leg for each layer."""
    legs, now = [], jax.tree.leaves(a)
    treedef, end = jax.tree.structure(a), jax.tree.leaves(b)
    for i in range(0, len(now), 2):
        part = (i, i + 1), Linear(now[i : i + 2], end[i : i + 2])
        legs.append(Partial(jax.tree.unflatten(treedef, now), [part]))
        now = [*now[:i], *end[i : i + 2], *now[i + 2 :]]
    return Legs(legs)


# Legs late in the network, whose beginning is shared, are the first that are worth it.
@pytest.mark.parametrize(("rate", "own"), [(1.0, 4), (1e6, 2), (1e30, 0)])
def test_a_path_is_one_whatever_has_a_program_of_its_own(rate, own, monkeypatch):
    """And distances between points on legs that are swept apart."""
    monkeypatch.setattr(worth, "_PROGRAM_SECONDS", 1.0)
    monkeypatch.setattr(worth, "_EQUATION_SECONDS", 0.0)
    monkeypatch.setattr(worth, "_CPU_RATE", rate)
    monkeypatch.setattr(worth, "_ACCELERATOR_RATE", rate)
    paid = []
    pays = Worth.pays
    monkeypatch.setattr(Worth, "pays", lambda *a: (paid.append(pays(*a)), paid[-1])[1])
    path, (x, y) = layer_by_layer(drawn(3, 0), drawn(3, 1)), data()
    curve = mcjax.evaluate(path, deep, (x, y), path.grid(4), chunk=40)
    assert paid == [i >= 4 - own for i in range(4)]
    points = [path(float(t)) for t in curve.t]
    np.testing.assert_allclose(curve.loss, [oracle(p, x, y) for p in points], rtol=1e-4)
    flat = [np.concatenate([np.ravel(v) for v in jax.tree.leaves(p)]) for p in points]
    lengths = np.linalg.norm(np.diff(np.asarray(flat, np.float64), axis=0), axis=1)
    np.testing.assert_allclose(curve.lengths, lengths, rtol=1e-4)


def test_what_a_leg_saves():
    """By hand: 5 points share the layers before the one that moves, which combines two of them."""
    path, (x, _) = layer_by_layer(drawn(3, 0), drawn(3, 1)), data()
    ts = jnp.linspace(0, 1, 5)
    estimate = Worth(deep, path, ts, x, 32, frozenset(), N)
    layer = 32 * WIDTH**2
    found = saved_work(path.legs[2], estimate.model, (), ts)
    assert found == (5 - 1) * 2 * layer + (5 - 2) * layer
    assert saved_work(path.legs[0], estimate.model, (), ts) == (5 - 2) * layer
    # A leaf of the second layer that something else gives is shared by nobody.
    assert saved_work(path.legs[2], estimate.model, {2}, ts) == (5 - 1) * layer


def test_compilations_do_not_grow_with_depth():
    """Layer by layer with weight adjustment, the whole path is evaluated by as many programs."""
    counts = {}
    for depth in (2, 5):
        a, b, (x, y) = drawn(depth, 0), drawn(depth, 1), data()
        network = mcjax.trace(deep, a, x[:4])
        path = mcjax.connect(network, a, b, mcjax.methods.LayerByLayer(), x=x).path
        with Compiled() as first:
            mcjax.evaluate(path, network, (x, y), path.grid(2))
        counts[depth] = len(first.programs), len(path.legs)
    assert counts[5][1] > counts[2][1] + 5
    assert counts[5][0] <= counts[2][0], counts
