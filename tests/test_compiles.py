"""The second call of anything with the same shapes compiles nothing."""

from __future__ import annotations

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mcjax
from mcjax.align import match_activations, match_butterflies, match_weights
from mcjax.evaluation import estimate_batch_norm
from mcjax.methods import with_protocol
from mcjax.path import Arc, Bezier, Linear, PolygonalChain
from mcjax.testing.models.catalogue import VGG, images, linen
from mcjax.training import Protocol


class Compiled:
    """Messages of what jax compiles inside the block."""

    def __enter__(self):
        self.messages: list[str] = []
        self.handler = logging.Handler()
        self.handler.emit = lambda r: self.messages.append(r.getMessage())
        logging.getLogger("jax").addHandler(self.handler)
        self.switch = jax.log_compiles()
        self.switch.__enter__()
        return self

    def __exit__(self, *error):
        self.switch.__exit__(*error)
        logging.getLogger("jax").removeHandler(self.handler)

    @property
    def programs(self):
        return [m for m in self.messages if "Compiling" in m]


def mlp(p, x):
    return jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"]


def params(seed):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (40, 12), "b1": (12,), "w2": (12, 3)}
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


def permutation(seed):
    return {"w1": np.random.default_rng(seed).permutation(12)}


def loss(p, batch):
    return jnp.mean(mlp(p, batch) ** 2)


X, Y = jax.random.normal(jax.random.key(0), (60, 40)), jnp.zeros(60, int)
NETWORK = mcjax.trace(mlp, params(0), X[:2])
OPTIMIZER = optax.adam(0.01)
BN = linen(VGG(), images(), [])

CALLS = {
    "trace": lambda s: mcjax.trace(mlp, params(s), X[:2]),
    "permute": lambda s: NETWORK.permute(permutation(s), params(s)),
    "match_activations": lambda s: match_activations(NETWORK, params(s), params(s + 1), X),
    "match_weights": lambda s: match_weights(NETWORK, params(s), params(s + 1)),
    "match_butterflies": lambda s: match_butterflies(NETWORK, params(s), params(s + 1)),
    "linear": lambda s: mcjax.evaluate(Linear(params(s), params(s + 1)), mlp, (X, Y), 5),
    "arc": lambda s: mcjax.evaluate(Arc(params(s), params(s + 1)), mlp, (X, Y), 5),
    "bezier": lambda s: mcjax.evaluate(Bezier([params(s + k) for k in range(3)]), mlp, (X, Y), 5),
    "chain": lambda s: mcjax.evaluate(
        PolygonalChain([params(s + k) for k in range(3)]), mlp, (X, Y), 5
    ),
    "fit": lambda s: mcjax.fit(
        Bezier([params(s + k) for k in range(3)]), loss, jnp.ones((4, 5, 40)) * s, OPTIMIZER,
        key=jax.random.key(s),
    ),
    "estimate_batch_norm": lambda s: estimate_batch_norm(
        BN.apply_fn, BN.another(s), images(batch=16), chunk=8
    ),
    "statistics of the end points": lambda s: mcjax.evaluate(
        Linear(BN.another(s), BN.another(s + 1)), BN.apply_fn, (images(batch=16), Y[:16]), 3
    ),
    "statistics estimated": lambda s: mcjax.evaluate(
        Linear(BN.another(s), BN.another(s + 1)), BN.apply_fn, (images(batch=16), Y[:16]), 3,
        statistics=images(batch=12), chunk=8,
    ),
    **{
        name: lambda s, m=with_protocol(method, Protocol(2, 16)): mcjax.connect(
            NETWORK, params(s), params(s + 1), m, x=X, y=Y
        )
        for name, method in mcjax.methods.PRESETS.items()
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::mcjax.evaluation.StatisticsWarning")
@pytest.mark.parametrize("name", list(CALLS))
def test_nothing_is_compiled_twice(name):
    with Compiled() as first:
        CALLS[name](1)
    with Compiled() as second:
        CALLS[name](2)
    assert second.programs == []
    assert first.messages is not second.messages


def again():
    """A second trace of the model, through another function."""
    return mcjax.trace(lambda p, x: mlp(p, x), params(0), X[:2])


def repair(network, s):
    path = Linear(params(s), params(s + 1))
    return mcjax.evaluation.Repaired(path, network, X)(0.5)


OF_NETWORKS = {
    "match_activations": lambda n, s: match_activations(n, params(s), params(s + 1), X),
    "match_weights": lambda n, s: match_weights(n, params(s), params(s + 1)),
    "activations": lambda n, s: n.activations(params(s), X[:13]),
    "permute under jit": lambda n, s: permuted(n, permutation(s), params(s)),
    "match_many": lambda n, s: mcjax.align.match_many(n, [params(s + i) for i in range(2)]),
    "repair": repair,
    "evaluate": lambda n, s: mcjax.evaluate(Linear(params(s), params(s + 1)), n, (X, Y), 5),
}


@functools.partial(jax.jit, static_argnums=0)
def permuted(network, permutations, params):
    return network.permute(permutations, params)


@pytest.mark.parametrize("name", list(OF_NETWORKS))
def test_a_second_trace_compiles_nothing(name):
    OF_NETWORKS[name](NETWORK, 1)
    second = again()
    assert second.apply_fn is not NETWORK.apply_fn
    with Compiled() as found:
        OF_NETWORKS[name](second, 2)
    assert found.programs == []


def test_the_counter_counts():
    with Compiled() as found:
        jax.jit(lambda x: x * 3.25 + 1)(jnp.ones(17))
    assert found.programs
