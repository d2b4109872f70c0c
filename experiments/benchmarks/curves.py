"""Training a Bézier curve, statistics along a curve, and alignment of a residual network."""

from __future__ import annotations

import json
import sys
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import mcjax
from mcjax.align import match_activations
from mcjax.evaluation import estimate_batch_norm
from mcjax.models import ResNet32, TinyTen
from mcjax.path import Bezier
from mcjax.tasks import accuracy, cross_entropy
from mcjax.training import MeanLoss

from .machine import best_of, images, matrix_rate, mlp, multiply_adds, once, random_mlp

SIZES, BATCH = (784, 512, 512, 512, 10), 128
LOSS = MeanLoss(mlp)


def training() -> dict[str, float]:
    """An epoch of `mcjax.fit` on a Bézier curve against one of SGD on a network, both scanned."""
    x, y = images(60_000)
    steps = len(x) // BATCH
    batches = tuple(v[: steps * BATCH].reshape(steps, BATCH, *v.shape[1:]) for v in (x, y))
    a, b = random_mlp(SIZES, 0), random_mlp(SIZES, 1)
    optimizer = optax.sgd(0.01, 0.9, nesterov=True)
    curve = Bezier.between(a, b)

    @jax.jit
    def plain(params, state, batches):
        def step(carry, batch):
            params, state = carry
            loss, gradient = jax.value_and_grad(LOSS)(params, batch)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), loss

        return jax.lax.scan(step, (params, state), batches)

    def bezier(samples: int):
        return mcjax.fit(
            curve, LOSS, batches, optimizer, key=jax.random.key(0), samples=samples
        ).losses

    network = best_of(lambda: plain(a, optimizer.init(a), batches), 3)
    seconds, four = best_of(lambda: bezier(1), 3), best_of(lambda: bezier(4), 1)
    least = 3 * 2 * steps * BATCH * multiply_adds(SIZES)
    return {"seconds": seconds, "plain": network, "ratio": seconds / network,
            "floor": least / matrix_rate(), "four": four}  # fmt: skip


class _Normalised(nn.Module):
    """A dense network with batch normalisation after every hidden layer."""

    hidden: tuple[int, ...] = SIZES[1:-1]

    @nn.compact
    def __call__(self, x):
        for width in self.hidden:
            x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Dense(width)(x)))
        return nn.Dense(SIZES[-1])(x)


def statistics(name: str) -> dict[str, float]:
    """A sweep of 61 t with statistics against a loop over t of jitted whole-set passes.

    The loop does for each t what a script does: a pass in training mode for the statistics, a
    pass in evaluation mode for the loss. `chunked`: the sweep with mcjax's default chunks, whose
    statistics are averages over them and therefore need a pass of their own.
    """
    model, shape, n = {
        "mlp": (_Normalised(), (784,), 20_000),
        "wide": (_Normalised((2000,)), (784,), 10_000),
        "tiny-ten": (TinyTen(), (32, 32, 3), 1000),
    }[name]  # fmt: skip
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(n, *shape)), jnp.float32)
    y = jnp.asarray(rng.integers(0, 10, n))
    a, b = (model.init(jax.random.key(s), x[:1]) for s in (0, 1))
    curve, ts = Bezier.between(a, b), np.linspace(0, 1, 61)

    def sweep():
        return mcjax.evaluate(curve, model.apply, (x, y), ts, statistics=x, chunk=n).loss

    def chunked():
        return mcjax.evaluate(curve, model.apply, (x, y), ts, statistics=x).loss

    # Two programs: in one, XLA would see that both passes compute the same and merge them.
    estimate = jax.jit(lambda t, x: estimate_batch_norm(model.apply, curve.at(t), x, chunk=n))

    @jax.jit
    def measure(params, x, y):
        outputs = model.apply(params, x)
        return cross_entropy(outputs, y).mean(), accuracy(outputs, y).mean()

    def loop():
        return [jax.block_until_ready(measure(estimate(t, x), x, y)) for t in ts]

    return {"seconds": best_of(sweep, 1), "chunked": once(chunked),
            "loop": best_of(loop, 1)}  # fmt: skip


def alignment() -> dict[str, float]:
    """ResNet32 on 10,000 images: against the two forward passes that it needs."""
    model, rng = ResNet32(), np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(10_000, 32, 32, 3)), jnp.float32)
    a, b = (model.init(jax.random.key(s), x[:1]) for s in (0, 1))
    network = mcjax.trace(model.apply, a, x[:2])

    def align():
        return match_activations(network, a, b, x).after["total"]

    @jax.jit
    def forwards(a, b, x):
        return jax.lax.map(lambda v: (model.apply(a, v), model.apply(b, v)),
                           x.reshape(20, 500, *x.shape[1:]))  # fmt: skip

    cold = once(align)
    return {"seconds": best_of(align, 1), "cold": cold,
            "forwards": best_of(lambda: forwards(a, b, x), 1)}  # fmt: skip


MEASURES: dict[str, Any] = {
    "training": training,
    "statistics-mlp": lambda: statistics("mlp"),
    "statistics-wide": lambda: statistics("wide"),
    "statistics-tiny-ten": lambda: statistics("tiny-ten"),
    "alignment": alignment,
}

if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]]()))
