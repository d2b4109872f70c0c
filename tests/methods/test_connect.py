"""Methods by name, on one hidden layer and on every network of the catalogue."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.methods import PRESETS, LayerByLayer, WeightAdjustment
from mcjax.testing.models.catalogue import MLP, MODELS, NEAR_TWINS, linen, vectors

from ..conftest import COVERING

# Layer-by-layer methods that share all their code with another one are tried in slow runs only.
TWINS = ("linear+wa", "arc+wa", "linear+butterfly", "ot+butterfly")
# The model's layers, its activations or the rows of its whole group are compiled for these.
COMPILING = ("arc+butterfly", "ot+wa", "weights-full", "activation-matching")
PLAIN = [m for m, method in PRESETS.items() if not method.needs_labels]


def quick(name):
    """A preset, with weights adjusted at three points of a leg."""
    method = PRESETS[name]
    if isinstance(method, LayerByLayer) and isinstance(method.reader, WeightAdjustment):
        return LayerByLayer(method.motion, WeightAdjustment(points=3))
    return method


def contracts():
    """Every method on every model; quickly, what compiles much on models that hold all there is."""
    for name, method in itertools.product(MODELS, PLAIN):
        if "+" in method and "resnet" in name and method not in TWINS:
            continue  # a minute each: tests/methods/test_layerwise.py has them as slow tests
        tried = name in COVERING if method in COMPILING else name not in NEAR_TWINS
        slow = method in TWINS or not tried
        yield pytest.param(name, method, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(("model", "method"), list(contracts()), indirect=["model"])
def test_contract_of_a_method(model, method):
    """Starts at A, ends at B or at B moved by an action (the same function)."""
    case, network = model
    a, b, x = case.another(1), case.another(2), case.inputs(32)
    made = mcjax.connect(network, a, b, quick(method), x=x, key=jax.random.key(0))
    path = made.path
    jax.tree.map(np.testing.assert_array_equal, path(0.0), a)
    assert PRESETS[method].moves_end or not made.permutations
    end = mcjax.Action.of(network, made.permutations, made.elements)(b)
    jax.tree.map(np.testing.assert_array_equal, path(1.0), end)
    for y, z in zip(
        jax.tree.leaves(case.run(path(1.0), x)),
        jax.tree.leaves(case.run(b, x)),
        strict=True,
    ):
        np.testing.assert_allclose(z, y, rtol=2e-3, atol=2e-3 * np.abs(y).max())
    kinds = lambda tree: jax.tree.map(lambda v: (np.shape(v), jnp.result_type(v)), tree)
    assert kinds(path(0.5)) == kinds(a)


def test_arc_mean_is_the_papers():
    """µ per coordinate over the pooled neurons; the output bias has its own mean."""
    case = linen(MLP((8,)), vectors(), [(8,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    a, b = case.another(1), case.another(2)
    path = mcjax.connect(network, a, b, "arc").path
    mean = path.mean["params"]
    pair = lambda layer, leaf: np.stack([np.asarray(p["params"][layer][leaf]) for p in (a, b)])
    first, last = pair("Dense_0", "kernel"), pair("Dense_1", "kernel")
    np.testing.assert_allclose(mean["Dense_0"]["kernel"], first.mean((0, 2))[:, None], atol=1e-6)
    np.testing.assert_allclose(mean["Dense_0"]["bias"], [pair("Dense_0", "bias").mean()], atol=1e-6)
    np.testing.assert_allclose(mean["Dense_1"]["kernel"], last.mean((0, 1))[None], atol=1e-6)
    np.testing.assert_allclose(mean["Dense_1"]["bias"], pair("Dense_1", "bias").mean(0), atol=1e-6)


def test_aligning_lowers_the_barrier_of_permuted_networks():
    """b is a with noise and its units shuffled: every aligner removes the barrier."""
    case = linen(MLP((64,)), vectors(), [(64,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    a, x = case.another(1), case.inputs(256)
    b = jax.tree.map(lambda u, v: u + 0.05 * v, a, case.another(2))
    b = network.permute(network.random_permutations(jax.random.key(1)), b)
    y = jnp.argmax(case.run(a, x), -1)

    def barrier(method):
        path = mcjax.connect(network, a, b, method, x=x).path
        return mcjax.evaluate(path, case.apply_fn, (x, y), t=11).barrier()

    linear = barrier("linear")
    for method in ("ot", "weight-matching", "activation-matching"):
        assert barrier(method) < 0.1 * linear


@pytest.fixture(scope="module")
def pair():
    case = linen(MLP((5,)), vectors(), [(5,)])
    return case, mcjax.trace(case.apply_fn, case.params, case.x), case.another(1), case.another(2)


def test_unknown_names_say_what_is_near(pair):
    _, network, a, b = pair
    with pytest.raises(ValueError, match=r"'ot\+w', did you mean 'ot\+wa'\? There are 'ot\+wa'"):
        mcjax.connect(network, a, b, "ot+w")
    with pytest.raises(ValueError, match=r"'teleport'.* 'linear', 'arc'.* or your own"):
        mcjax.connect(network, a, b, "teleport")
    with pytest.raises(ValueError, match=r"'iaf-flow' needs a connection model .*Flow\(model\)"):
        mcjax.connect(network, a, b, "iaf-flow")


def test_what_is_missing_is_asked_for(pair):
    case, network, a, b = pair
    with pytest.raises(ValueError, match=r"Activation matching looks at .* pass inputs as x="):
        mcjax.connect(network, a, b, "activation-matching")
    with pytest.raises(ValueError, match=r"Garipov \(3\) trains: pass inputs as x="):
        mcjax.connect(network, a, b, "garipov-3")
    with pytest.raises(ValueError, match=r"Garipov \(3\) trains and needs labels: .* y="):
        mcjax.connect(network, a, b, "garipov-3", x=case.inputs(9))
    with pytest.raises(ValueError, match="x and y have different lengths: 9 and 8"):
        mcjax.connect(network, a, b, "bezier", x=case.inputs(9), y=np.zeros(8, int))
    with pytest.raises(ValueError, match=r"x: leaf .* holds 1 NaN"):
        mcjax.connect(network, a, b, "linear+wa", x=case.inputs(9).at[0, 0].set(np.nan))


@pytest.mark.parametrize("key", [3, "seed", np.arange(3), jax.random.split(jax.random.key(0))])
def test_key_that_is_none(pair, key):
    _, network, a, b = pair
    with pytest.raises(ValueError, match=r"key must be a random key, as jax.random.key"):
        mcjax.connect(network, a, b, "linear", key=key)


def test_arguments_in_another_order(pair):
    case, network, a, b = pair
    with pytest.raises(ValueError, match=r"network is a str; the order is mcjax.connect"):
        mcjax.connect("ot", network, a, b)
    with pytest.raises(ValueError, match="network is a dict; the order is"):
        mcjax.connect(a, b, network, "ot")
    with pytest.raises(ValueError, match="b must be a tree of parameters, got a str"):
        mcjax.connect(network, a, "ot", b)
    with pytest.raises(ValueError, match=r"made by mcjax.trace.*; got a function"):
        mcjax.connect(case.apply_fn, a, b, "ot")
    with pytest.raises(ValueError, match=r"task must be a mcjax.Task"):
        mcjax.connect(network, a, b, "ot", task="regression")
    with pytest.raises(ValueError, match=r"pass its .path"):
        mcjax.evaluate(mcjax.connect(network, a, b, "ot"), case.apply_fn, (case.x, 0))


def test_dtype_that_differs(pair):
    _, network, a, _ = pair
    half = jax.tree.map(lambda v: v.astype(jnp.float16), a)
    with pytest.raises(ValueError, match="has dtype float16, expected float32"):
        mcjax.connect(network, a, half, "linear")
