"""Every model: its groups are those a person expects, and acting on them keeps the function."""

from __future__ import annotations

from collections import Counter
from functools import partial

import jax
import numpy as np
import pytest

import mcjax
from mcjax.testing.models.catalogue import MODELS, NEAR_TWINS

from ..conftest import COVERING, models, traced


def outputs(case, params, x):
    return [np.asarray(v, np.float64) for v in jax.tree.leaves(case.run(params, x))]


def test_groups_are_maximal(model):
    case, network = model
    assert Counter(g.shape for g in network.groups.values()) == case.shapes


def test_permuting_keeps_the_function(model):
    case, network = model
    params, x = case.another(1), case.inputs(4)
    moved = network.permute(network.random_permutations(jax.random.key(3)), params)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(moved), strict=True)
    )
    for y, z in zip(outputs(case, params, x), outputs(case, moved, x), strict=True):
        np.testing.assert_allclose(z, y, rtol=2e-3, atol=2e-3 * np.abs(y).max())


def test_every_group_moves_something(model):
    """A group alone changes parameters: none is a phantom."""
    case, network = model
    params = case.another(2)
    for name, group in network.groups.items():
        reverse = np.broadcast_to(np.arange(group.size)[::-1], group.shape)
        moved = network.permute({name: reverse}, params)
        pairs = zip(jax.tree.leaves(params), jax.tree.leaves(moved), strict=True)
        assert any(not np.array_equal(a, b) for a, b in pairs), name


def test_groups_form_a_group(model):
    case, network = model
    params = case.another(1)
    drawn = (network.random_permutations(jax.random.key(k)) for k in (5, 6))
    a, b = (mcjax.Action.of(network, p) for p in drawn)
    jax.tree.map(np.testing.assert_array_equal, (a @ b)(params), a(b(params)))
    jax.tree.map(np.testing.assert_array_equal, a.inverse()(a(params)), params)


@pytest.mark.parametrize("model", models(COVERING), indirect=True)
def test_permutations_under_jit_and_vmap(model):
    case, network = model
    params = case.another(1)
    keys = jax.random.split(jax.random.key(0), 2)
    stacked = jax.jit(jax.vmap(lambda k: network.permute(network.random_permutations(k), params)))
    expected = network.permute(network.random_permutations(keys[1]), params)
    jax.tree.map(lambda s, e: np.testing.assert_array_equal(s[1], e), stacked(keys), expected)


def holds(network):
    """Primitives, and kinds of groups: their symmetry and what they depend on."""
    kinds = {(g.symmetry, tuple(o is None for o in g.over)) for g in network.groups.values()}
    return kinds | {e.name for e in network.analysis.program.all_equations()}


@pytest.mark.parametrize("model", [m for m in MODELS if m not in NEAR_TWINS], indirect=True)
def test_covering_models_hold_what_the_others_do(model):
    new = {"unstack"}  # of JAX 0.11; before it, slices, which others have
    assert holds(model[1]) - new <= set().union(*(holds(traced(name)[1]) for name in COVERING))


def test_layers(model):
    """Each group is written by a layer; the names of leaves exist; biases are found."""
    _, network = model
    leaves = set(network.leaf_names)
    assert network.layers
    for layer in network.layers:
        assert layer.weight in leaves
        assert layer.bias is None or layer.bias in leaves
        assert set(layer.groups_in) | set(layer.groups_out) <= set(network.groups)
    written = {g for layer in network.layers for g in (*layer.groups_out, *layer.groups_in)}
    assert written == set(network.groups)


def test_explain_names_every_leaf(model):
    _, network = model
    text = network.explain()
    assert all(name in text for name in network.leaf_names)
    assert "not understood" not in text


def test_interpreter_equals_the_model(model):
    """The evaluating interpreter computes exactly what jit computes (to rounding)."""
    from mcjax.network.activations import analysis_for
    from mcjax.network.program import run

    case, network = model
    params, x = case.another(1), case.inputs(4)
    types = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), x)
    program = analysis_for(network, types)[0].program
    found, _ = jax.jit(partial(run, program))([*jax.tree.leaves(params), *jax.tree.leaves(x)])
    for y, z in zip(outputs(case, params, x), found, strict=True):
        np.testing.assert_allclose(np.asarray(z, np.float64), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "transformer"])
def test_names(name):
    from mcjax.testing.models.catalogue import MODELS

    case = MODELS[name]()
    names = list(mcjax.trace(case.apply_fn, case.params, case.x).groups)
    expected = {
        "mlp": ["Dense_0", "Dense_1"],
        "transformer": ["Embed_0", "MultiHeadDotProductAttention_0/query"],
    }
    assert names[:2] == expected[name]
