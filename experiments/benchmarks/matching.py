"""Activation and weight matching of 784-512-512-512-10; the whole group of a transformer."""

from __future__ import annotations

import json
import sys

import jax
import numpy as np

import mcjax
from mcjax.align import match_activations, match_weights
from mcjax.data import load
from mcjax.models import MLP
from mcjax.training import Protocol, train_networks

from .machine import best_of, images, matrix_rate, mlp, multiply_adds, once, random_mlp, scipy_share
from .tracing import MODELS

SIZES = (784, 512, 512, 512, 10)
N = 10_000


def networks():
    """Two networks and the trace; b is a permuted, noisy a, as two trained networks are alike."""
    x, _ = images(N)
    a = random_mlp(SIZES, 0)
    network = mcjax.trace(mlp, a, x[:2])
    b = random_mlp(SIZES, 1)
    b = jax.tree.map(lambda u, v: 0.5**0.5 * (u + v), a, b)
    return network, a, network.permute(network.random_permutations(jax.random.key(0)), b), x


def activations() -> dict[str, float]:
    network, a, b, x = networks()

    def match():
        return match_activations(network, a, b, x).permutations

    cold = once(match)
    warm = best_of(match, 5)
    moments = sum(n * n for n in SIZES[1:-1])
    least = 2 * N * (2 * (multiply_adds(SIZES) - SIZES[-2] * SIZES[-1]) + moments)
    return {"seconds": warm, "cold": cold, "floor": least / matrix_rate()}


def trained(count: int, epochs: int):
    """The trace, and networks trained on MNIST: assignments of the usual difficulty.

    Those of planted permutations are some seven times easier.
    """
    data = load("mnist").flat()
    model = MLP(SIZES[1:-1])
    found = train_networks(
        model.apply, lambda key: model.init(key, data.x_train[:1]),
        (data.x_train, data.y_train), range(count), Protocol(epochs),
    )  # fmt: skip
    network = mcjax.trace(model.apply, found[0], data.x_train[:2])
    return network, jax.tree.map(np.asarray, list(found))


def weights() -> dict[str, float]:
    """Time of weight matching and the share of it that SciPy's assignment takes."""
    network, (a, b) = trained(2, 4)
    seconds, share = scipy_share(lambda: match_weights(network, a, b), 7)
    return {"seconds": seconds, "share": share}


def group() -> dict[str, float]:
    """Weight matching over the whole group and over permutations, a 12-layer transformer."""
    model, inputs = MODELS["transformer"]
    x = inputs(2)
    a, b = (model.init(jax.random.key(s), x) for s in (0, 1))
    network = mcjax.trace(model.apply, a, x)
    b = jax.tree.map(lambda u, v: 0.5**0.5 * (u + v), a, b)
    b = mcjax.Action.random(network, jax.random.key(2))(b)
    a, b = jax.tree.map(np.asarray, (a, b))
    times = {
        symmetry: best_of(lambda s=symmetry: match_weights(network, a, b, symmetry=s), 3)
        for symmetry in ("permutation", "full")
    }
    return {"seconds": times["full"], "ratio": times["full"] / times["permutation"]}


if __name__ == "__main__":
    print(
        json.dumps({"activations": activations, "weights": weights, "group": group}[sys.argv[1]]())
    )
