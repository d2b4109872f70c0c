"""Leaves drawn and moved a turn of a scan at a time: as the whole leaf is, at no more memory."""

from __future__ import annotations

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.network import rules
from mcjax.network.draws import Parameter
from mcjax.network.mover import Mover, layers_of
from mcjax.network.program import make_program
from mcjax.network.symmetry.act import random_element, transform_leaf
from mcjax.network.verify import _permutation, _Shared
from mcjax.network.wide import Stack, Wide, on_host

LAYERS, WIDTH, HIDDEN = 4, 6, 8
X = jnp.asarray(np.random.default_rng(9).normal(size=(4, WIDTH)), jnp.float32)


def stack(seed=0, layers=LAYERS, width=WIDTH, hidden=HIDDEN, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    shapes = {
        "in": (layers, width, hidden),
        "out": (layers, hidden, width),
        "norm": (layers, width),
    }
    return {k: jnp.asarray(rng.normal(size=s) / s[1] ** 0.5, dtype) for k, s in shapes.items()}


def scanned(inside=lambda h, i: jnp.tanh(h)):
    """A residual network, `inside(h, i)` in its layer i."""

    def layer(x, given):
        p, i = given
        return x + inside((p["norm"] * x) @ p["in"], i) @ p["out"], None

    return lambda p, x: jax.lax.scan(layer, x, (p, jnp.arange(len(p["in"]))))[0]


def test_turns_are_those_of_the_whole_leaf(model):
    """Every leaf of the catalogue; the whole against what actions do, factor after factor."""
    case, network = model
    rng = np.random.default_rng(0)
    given = {g.atom: _permutation(g.shape, rng, True) for g in network.groups.values()}
    elements = [
        (g, f, random_element(f.kind, g.shape, rng))
        for g in network.groups.values() for f in g.structure.factors if f.kind != "permutation"
    ]  # fmt: skip
    for i, leaf in enumerate(jax.tree.leaves(case.another(1))):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        axes = network.leaf_axes[i]
        parameter, mover = Parameter(leaf, i), Mover(network, i, given, elements)
        drawn = parameter.drawn(0)
        whole = mover(drawn)
        expected = network.permute_leaf(given, drawn, axes).astype(whole.dtype)
        for group, factor, element in [*mover.matrices, *mover.scalings]:
            expected = transform_leaf(group, factor, element, i, expected, axes)
        np.testing.assert_allclose(whole, expected, rtol=1e-12, atol=1e-12)
        for k in range(len(leaf) if layers_of(axes) else 0):
            np.testing.assert_array_equal(parameter.drawn(0, k), drawn[k])
            np.testing.assert_allclose(mover.turn(drawn[k], k), whole[k], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64, jnp.int32])
@pytest.mark.parametrize("of_type", [False, True])
def test_draws_of_a_turn(dtype, of_type):
    """Longer than a block of numbers, so that turns begin inside of one."""
    leaf = jnp.asarray(np.random.default_rng(0).normal(size=(3, 130, 300)), dtype)
    parameter = Parameter(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if of_type else leaf, 5)
    if of_type and dtype == jnp.complex64:
        pytest.skip("of complex types nothing but zeros would be known")
    whole = parameter.drawn(1)
    for k in range(3):
        np.testing.assert_array_equal(parameter.drawn(1, k), whole[k])


def test_a_scan_of_stacks_is_the_unrolled_model():
    p, length = stack(), LAYERS

    def unrolled(layers, x):
        for i, of in enumerate(layers):
            x = scanned(lambda h, _, i=i: jnp.sin(h + i))(jax.tree.map(lambda v: v[None], of), x)
        return x

    layers = [jax.tree.map(lambda v, i=i: v[i], p) for i in range(length)]
    pairs = (scanned(lambda h, i: jnp.sin(h + i)), p), (unrolled, layers)
    programs = [make_program(f, q, X[:2]) for f, q in pairs]
    read: list[int] = []

    def turn(v, k):
        read.append(k)
        return v[k]

    leaves = [np.asarray(v) for v in jax.tree.leaves(p)]
    once = [_Shared(lambda k, v=v: turn(v, k), 2) for v in leaves]
    stacks = [Stack(lambda v=v: v, turn) for v, turn in zip(leaves, once, strict=True)]
    with on_host():
        x = np.asarray(X)[:2]
        found = Wide().run_each(programs[0], [[*stacks, x], [*stacks, 2 * x]])
        flat = [np.asarray(v) for v in jax.tree.leaves(layers)]
        expected = [Wide().run(programs[1], [*flat, c * x]) for c in (1, 2)]
    np.testing.assert_allclose(np.array(found), np.array(expected), rtol=1e-12)
    assert sorted(read) == sorted([*range(length)] * len(leaves))  # once for both runs


@pytest.mark.parametrize("reverse", [False, True])
def test_what_a_scan_stacks_up(reverse):
    """Outputs of turns, a leaf that is an output itself and one that is also read whole."""

    def model(p, x):
        step = lambda h, w: (jnp.tanh(h @ w), (h, w))
        h, (seen, w) = jax.lax.scan(step, x, p["w"], reverse=reverse)
        return h, seen, w, p["w"].sum()

    p = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(3, WIDTH, WIDTH)), jnp.float32)}
    w, x = np.asarray(p["w"]), np.asarray(X)
    with on_host():
        found = Wide().run(make_program(model, p, X), [Stack(lambda: w, w.__getitem__), x])
    for y, z in zip(found, model(p, x), strict=True):
        np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("at", range(LAYERS))
def test_a_group_that_is_wrong_in_one_layer(monkeypatch, at):
    monkeypatch.setitem(rules.RULES, "cumsum", rules.RULES["tanh"])
    mixes = scanned(lambda h, i: jnp.tanh(jnp.where(i == at, jnp.cumsum(h, -1), h)))
    with pytest.raises(RuntimeError, match="do not leave the function unchanged"):
        mcjax.trace(mixes, stack(), X)
    assert list(mcjax.trace(scanned(), stack(), X).groups) == ["in"]  # the rule alone was wrong


@pytest.mark.parametrize("at", range(LAYERS))
def test_a_factor_that_is_wrong_in_one_layer(monkeypatch, at):
    """Were tanh homogeneous, the hidden units of that layer could be scaled."""
    from mcjax.network.symmetry import pointwise

    monkeypatch.setitem(pointwise._NAMED, "tanh", pointwise.linear)
    bends = scanned(lambda h, i: jnp.where(i == at, jnp.tanh(h), h))
    with pytest.warns(UserWarning, match="in: general linear"):
        network = mcjax.trace(bends, stack(), X)
    assert network.groups["in"].symmetry == "permutation"


def test_memory_is_that_of_a_turn():
    """Thirty-two layers in bfloat16 that signs, scales and permutations move."""
    p = stack(layers=32, width=512, hidden=512, dtype=jnp.bfloat16)
    x = jnp.ones((2, 512), jnp.bfloat16)
    model = scanned(lambda h, i: jax.nn.relu(h))
    network = mcjax.trace(model, p, x)  # what is kept: the random numbers
    assert network.groups["in"].symmetry == "positive monomial"
    tracemalloc.start()
    mcjax.trace(model, p, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < sum(v.nbytes for v in p.values()) / 2  # 34 MB; in float64 they would be 134 MB
