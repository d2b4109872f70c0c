"""Parameters and inputs that are NumPy arrays, under a transfer guard: nothing moves by itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.inputs import Bypass, Synthesis
from mcjax.training import Protocol

RNG = np.random.default_rng(0)
X, C = (RNG.normal(size=(8, 4)).astype(np.float32) for _ in range(2))
Y = np.arange(8) % 2
KEY = jax.random.key(0)
# A stream that turns, units that are scaled, exchanged or signed.
SHAPES = {"in": (4, 5), "a": (5, 3), "b": (3, 5), "u": (5, 3), "v": (3, 5), "out": (5, 2)}


def net(p, x):
    h = x @ p["in"]
    n = h * jax.lax.rsqrt(jnp.mean(h**2, -1, keepdims=True) + 0.1)
    return (h + jax.nn.relu(n @ p["a"]) @ p["b"] + jnp.tanh(n @ p["u"]) @ p["v"]) @ p["out"]


def draw(seed):
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}


A, B = draw(1), draw(2)


@pytest.fixture(scope="module")
def network():
    return mcjax.trace(net, A, X)


def on_host(action):
    """The same action, of NumPy arrays."""
    permutations = {n: np.asarray(p) for n, p in action.permutations.items()}
    elements = mcjax.network.elements.by_kind(action.network, action.elements)
    return mcjax.Action.of(action.network, permutations, jax.tree.map(np.asarray, elements))


INPUTS = {
    "interpolate": lambda: mcjax.inputs.interpolate(net, A, (X, C), (Y, 1 - Y), 5).values,
    "bypass": lambda: (
        mcjax.inputs.bypass(net, A, (X, C), Y, Bypass(0.3, depth=2, steps=8, block=4)).height
    ),
    "synthesise": lambda: mcjax.inputs.synthesise(net, A, X, Y, Synthesis(0.01, steps=4)).x,
}


def same(found, expected):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-5), found, expected)


@pytest.mark.parametrize("name", INPUTS)
def test_inputs(name):
    expected = INPUTS[name]()
    with jax.transfer_guard("disallow"):
        found = INPUTS[name]()
    same(found, expected)


@pytest.mark.parametrize("device", [False, True], ids=["host", "device"])
def test_elements_of_the_whole_group(network, device):
    """An action and parameters of NumPy arrays or not, in each combination."""
    action = mcjax.Action.random(network, KEY)
    of_numpy, params = on_host(action), jax.tree.map(jnp.asarray, B) if device else B
    expected = [action(params), action.inverse()(params), (action @ action)(params)]
    kinds = {f.kind for g in network.groups.values() for f in g.structure.factors}
    assert {"orthogonal", "positive", "sign"} <= kinds
    with jax.transfer_guard("disallow"):
        for one in (action, of_numpy):
            found = [one(params), one.inverse()(params), (one @ action)(params)]
            same(found, expected)
        matrices = of_numpy.matrices()
    same(matrices, action.matrices())


def test_matched_and_learned(network):
    search = mcjax.align.ActionSearch(Protocol(1, batch=4))

    def found():
        matched = mcjax.align.match_weights(network, A, B, symmetry="full").action(network)
        learned = mcjax.align.learn_action(network, A, B, (X, Y), search, key=KEY, start=matched)
        return matched(B), learned.action(B), learned.losses

    expected = found()
    with jax.transfer_guard("disallow"):
        same(found(), expected)
