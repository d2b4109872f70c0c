"""Methods by name, on one hidden layer and on every network of the catalogue."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.methods import METHODS

from .catalogue import MLP, MODELS, linen, vectors

# Layer-by-layer methods that share all their code with another one are tried in slow runs only.
TWINS = ("linear+wa", "arc+wa", "linear+butterfly", "ot+butterfly")
PLAIN = [m for m, method in METHODS.items() if not method.needs]


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=pytest.mark.slow if m in TWINS else ()) for m in PLAIN]
)
def test_contract_of_a_method(model, method, request):
    """Starts at A, ends at B or at B with its units in another order (the same function)."""
    case, network = model
    if "+" in method and "resnet20" in request.node.name and method not in TWINS:
        pytest.skip("a minute each: tests/recipes/test_layerwise.py has them as slow tests")
    a, b, x = case.another(1), case.another(2), case.inputs(32)
    path = mcjax.connect(method, network, a, b, x=x, key=jax.random.key(0), points=3)
    jax.tree.map(np.testing.assert_array_equal, path(0.0), a)
    if not METHODS[method].moves_end:
        jax.tree.map(np.testing.assert_array_equal, path(1.0), b)
    for y, z in zip(
        jax.tree.leaves(case.run(path(1.0), x)),
        jax.tree.leaves(case.run(b, x)),
        strict=True,
    ):
        np.testing.assert_allclose(z, y, rtol=2e-3, atol=2e-3 * np.abs(y).max())
    jax.tree.map(lambda u, v: (u.dtype, u.shape) == (v.dtype, v.shape), path(0.5), a)


def test_arc_mean_is_the_papers():
    """µ per coordinate over the pooled neurons; the output bias has its own mean."""
    case = linen(MLP((8,)), vectors(), [(8,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    a, b = case.another(1), case.another(2)
    path = mcjax.connect("arc", network, a, b)
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
        path = mcjax.connect(method, network, a, b, x=x)
        return mcjax.evaluate(path, case.apply_fn, (x, y), t=11).barrier()

    linear = barrier("linear")
    for method in ("ot", "weight-matching", "activation-matching"):
        assert barrier(method) < 0.1 * linear


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "teleport"}, "method must be one of 'linear', 'arc', 'ot'"),
        ({"method": "activation-matching"}, "pass inputs as x="),
    ],
)
def test_bad_arguments(arguments, message):
    case = MODELS["mlp"]()
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    call = {"network": network, "a": case.params, "b": case.params} | arguments
    with pytest.raises(ValueError, match=message):
        mcjax.connect(**call)


def test_dtype_that_differs():
    case = MODELS["mlp"]()
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    half = jax.tree.map(lambda v: v.astype(jnp.float16), case.params)
    with pytest.raises(ValueError, match="has dtype float16, expected float32"):
        mcjax.connect("linear", network, case.params, half)
