"""Weight adjustment and optimal transport of 784-2000-10 on MNIST, against general solvers."""

from __future__ import annotations

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import mcjax
from mcjax.adjust import solve_layers
from mcjax.align import match_butterflies
from mcjax.data import load
from mcjax.methods import LayerByLayer, Linear, WeightAdjustment
from mcjax.models import MLP
from mcjax.training import Protocol, train_networks

from .machine import best_of, matrix_rate, peak_memory, scipy_share

WIDTH, T = 2000, 21


def trained():
    """Data, model, trace, and two networks trained for two epochs."""
    data, model = load("mnist").flat(), MLP((WIDTH,))
    a, b = train_networks(
        model.apply, lambda key: model.init(key, data.x_train[:1]),
        (data.x_train, data.y_train), (0, 1), Protocol(epochs=2),
    )  # fmt: skip
    return data, model, mcjax.trace(model.apply, a, data.x_train[:2]), a, b


def one() -> dict[str, float]:
    """W2 at t = 0.5, activations included, and general solvers on the same activations."""
    data, _, network, a, b = trained()
    x = jnp.asarray(data.x_train)
    middle = mcjax.path.Linear(a, b)(0.5)

    def ours():
        return solve_layers(network, middle, a, x, layers=["Dense_1"]).params["params"]["Dense_1"]

    seconds = best_of(ours, 3)

    def activations():
        inputs = [network.layer_inputs(p, x)["Dense_1"] for p in (middle, a)]
        return inputs[0], inputs[1] @ a["params"]["Dense_1"]["kernel"]

    activations = jax.jit(activations)
    hidden, target = map(np.asarray, activations())
    forward = best_of(activations, 1)
    wide, wanted = hidden.astype(np.float64), target.astype(np.float64)
    with jax.enable_x64(True):
        arrays = jnp.asarray(wide), jnp.asarray(wanted)
        start = time.perf_counter()
        best = np.asarray(jax.block_until_ready(jnp.linalg.lstsq(*arrays)[0]))
        lstsq = time.perf_counter() - start
    start = time.perf_counter()
    inverse = np.linalg.pinv(hidden) @ target
    pinv = time.perf_counter() - start

    def residual(w):
        return float(np.sum((wide @ np.float64(w) - wanted) ** 2) / np.sum(wanted**2))

    optimum = residual(best)
    least = 2 * len(x) * (2 * 784 * WIDTH + WIDTH**2 / 2)
    return {
        "seconds": seconds, "lstsq": lstsq + forward, "pinv": pinv + forward,
        "excess": residual(ours()["kernel"]) / optimum - 1,
        "pinv_excess": residual(inverse) / optimum - 1, "floor": least / matrix_rate(),
    }  # fmt: skip


def path() -> dict[str, float]:
    """The Linear + WA path solved at 21 t, and its accuracy on train and test at 31."""
    data, model, network, a, b = trained()
    start = time.perf_counter()
    method = LayerByLayer(Linear(), WeightAdjustment(points=T))
    made = mcjax.connect(network, a, b, method, x=data.x_train).path
    construct = time.perf_counter() - start
    for split in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        mcjax.evaluate(made, model.apply, split, made.grid(10))
    seconds = time.perf_counter() - start
    n, first = 60_000, 784 * WIDTH
    least = 2 * n * (3 * first + T * WIDTH**2 / 2) + 2 * 70_000 * (2 * first + 31 * WIDTH * 10)
    return {"seconds": seconds, "construct": construct, "memory": peak_memory(),
            "floor": least / matrix_rate()}  # fmt: skip


def transport() -> dict[str, float]:
    """Exact matching of 2,000 butterflies, and the share of SciPy's assignment."""
    _, _, network, a, b = trained()
    a, b = jax.tree.map(np.asarray, (a, b))
    seconds, share = scipy_share(lambda: match_butterflies(network, a, b), 5)
    return {"seconds": seconds, "share": share}


if __name__ == "__main__":
    print(json.dumps({"one": one, "path": path, "transport": transport}[sys.argv[1]]()))
