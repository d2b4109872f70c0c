"""Paths between inputs: loss curves, bypasses, percolation; against the bare programs they need."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mcjax.data import Dataset, load
from mcjax.inputs import Bypass, bypass, interpolate
from mcjax.models import MLP, Conv2FC1
from mcjax.tasks import CLASSIFICATION
from mcjax.theory import percolate
from mcjax.training import Protocol, train_networks

from .machine import best_of, in_turn, once

PAIRS, POINTS, STEPS = 1000, 250, 64
BATCHES = (64, 128, 256, 512, 1024)


def trained(model: Any, data: Dataset, epochs: int) -> Any:
    (params,) = train_networks(
        model.apply, lambda key: model.init(key, data.x_train[:1]),
        (data.x_train, data.y_train), (0,), Protocol(epochs, 32, 0.05),
    )  # fmt: skip
    return params


def low(model: Any, params: Any, data: Dataset, pairs: int, most: float) -> tuple[Any, Any]:
    """Pairs of training images of different classes whose losses are below `most`; their labels.

    There is always a barrier between them.
    """
    x, y = data.x_train[:6000], data.y_train[:6000]
    fine = np.flatnonzero(CLASSIFICATION.losses(model.apply(params, x), y) < most)
    rng = np.random.default_rng(0)
    first = rng.choice(fine, pairs)
    second = np.array([rng.choice(fine[y[fine] != y[i]]) for i in first])
    return (x[first], x[second]), (y[first], y[second])


def curves() -> dict[str, float]:
    """Losses of 1,000 pairs at 250 points; a fifth of them, against as many forward passes."""
    model, rng = Conv2FC1((8, 16)), np.random.default_rng(0)
    a, c = rng.random((2, PAIRS, 28, 28, 1), np.float32)
    params, y = model.init(jax.random.key(0), a[:1]), rng.integers(0, 10, PAIRS)
    forward = jax.jit(model.apply)
    each = []
    for batch in BATCHES:
        x = jnp.asarray(a[rng.integers(0, PAIRS, batch)])
        each.append(best_of(lambda x=x: forward(params, x), 5) / batch)
    best = BATCHES[int(np.argmin(each))]
    x = jnp.asarray(a[rng.integers(0, PAIRS, best)])

    def losses(pairs: int) -> Any:
        some = slice(pairs)
        return interpolate(model.apply, params, (a[some], c[some]), y[some], POINTS, chunk=best)

    def bare() -> None:
        for _ in range(round(PAIRS // 5 * POINTS / best)):
            jax.block_until_ready(forward(params, x))

    _, ratio = in_turn(lambda: losses(PAIRS // 5).loss, bare)
    seconds = once(lambda: losses(PAIRS).loss)
    return {"seconds": seconds, "floor": seconds / ratio, "ratio": ratio, "batch": best}


def mlp() -> dict[str, float]:
    """Bypasses of 100 pairs of digits together, and one after the other."""
    data, model = load("digits").flat(), MLP((64, 64))
    params = trained(model, data, 40)
    (a, c), (y_a, y_c) = low(model, params, data, 100, 0.02)
    how = Bypass(0.05, 1, points=50, steps=256, learning_rate=0.02, deviation=0.0)

    def run(rows: slice) -> Any:
        y = y_a[rows], y_c[rows]
        return bypass(model.apply, params, (a[rows], c[rows]), y, how).height

    together = best_of(lambda: run(slice(None)), 2)
    run(slice(0, 1))  # compiles
    apart = once(lambda: [run(slice(i, i + 1)) for i in range(len(a))])
    return {"seconds": together, "apart": apart, "ratio": apart / together}


def cnn() -> dict[str, float]:
    """Bypasses of 100 pairs of a CNN, and the gradient steps alone that they take; CPU time.

    With as many points on a segment for each step as there are by default, and with three times as
    many, where it is the curves that take the time.
    """
    data, model = load("mnist").first(6000), Conv2FC1((8, 16))
    params = trained(model, data, 2)
    (a, c), labels = low(model, params, data, 100, 0.05)
    # Of a margin that no point reaches, so that all take all steps.
    few = -(-STEPS * Bypass().points // Bypass().steps)
    how = {points: Bypass(0.1, 1, points=points, steps=STEPS, margin=1e-12)
           for points in (few, 3 * few)}  # fmt: skip

    def loss(x: Any, y: Any) -> Any:
        outputs = model.apply(params, x)
        return jnp.sum(jnp.min(jnp.stack([CLASSIFICATION.losses(outputs, k) for k in y]), 0))

    gradient = jax.jit(jax.grad(loss))
    each = {}
    for batch in (32, 64, 128):
        x, y = jnp.asarray(a[:1].repeat(batch, 0)), [k[:1].repeat(batch) for k in labels]
        each[batch] = best_of(lambda x=x, y=y: gradient(x, y), 5) / batch, x, y
    batch = min(each, key=lambda k: each[k][0])
    _, x, y = each[batch]

    def bare() -> None:
        for _ in range(STEPS * len(a) // batch):
            jax.block_until_ready(gradient(x, y))

    def run(points: int) -> Any:
        return bypass(model.apply, params, (a, c), labels, how[points], chunk=64).height

    seconds, ratio = in_turn(lambda: run(few), bare, 5, time.process_time)
    _, curves = in_turn(lambda: run(3 * few), bare, 5, time.process_time)
    return {"seconds": seconds, "floor": seconds / ratio, "ratio": ratio, "points": few,
            "curves": curves}  # fmt: skip


def percolation() -> dict[str, float]:
    """Clusters of a million sites in 2, 6 and 20 dimensions, at three occupied neighbours."""
    found = {}
    for dimension, side in ((2, 1000), (6, 10), (20, 2)):
        p = min(3 / (2 * dimension * (1 - 1 / side)), 1)
        found[str(dimension)] = once(
            lambda d=dimension, s=side, p=p: percolate(d, s, p, seed=0).sizes
        )
    return {"seconds": max(found.values()), **found}


if __name__ == "__main__":
    work = {"curves": curves, "mlp": mlp, "cnn": cnn, "percolation": percolation}
    print(json.dumps(work[sys.argv[1]]()))
