"""Weight adjustment of ResNet20 layer by layer: compilations, and time against its arithmetic."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mcjax
from mcjax.adjust.stages import Plan
from mcjax.methods import LayerByLayer, Linear, WeightAdjustment

from .machine import matrix_rate, row
from .tracing import MODELS

N, POINTS = 64, 5


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Names of the programs that XLA compiles inside the block."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    logger = logging.getLogger("jax")
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            yield found
    finally:
        logger.removeHandler(handler)
        found[:] = [
            line.split("Compiling ")[1].split()[0] for line in found if "Compiling " in line
        ]


def measure() -> dict[str, Any]:
    """The path of two networks with random weights, and of two others with the same programs."""
    model, inputs = MODELS["resnet20"]
    x = np.asarray(inputs(N))

    def pair(seed: int) -> list[Any]:
        return [_random(model.init(jax.random.key(s), x[:1]), s) for s in (seed, seed + 1)]

    a, b = pair(0)
    network = mcjax.trace(model.apply, a, x[:2])
    method = LayerByLayer(Linear(), WeightAdjustment(points=POINTS))
    with compilations() as programs:
        cold = _seconds(lambda: mcjax.connect(network, a, b, method, x=x))
    a, b = pair(2)
    with compilations() as again:
        warm = _seconds(lambda: mcjax.connect(network, a, b, method, x=x))
    shapes = [
        {network.leaf_types[network.layers[n].contraction.weight].shape for n in stage.readers}
        for stage in Plan(network).stages
    ]
    return {
        "cold": cold, "seconds": warm, "programs": len(programs), "again": len(again),
        "distinct": len(set(programs)), "allowed": sum(map(len, shapes)) + 3,
        "stages": len(shapes), "floor": _flops(network, a, x) / matrix_rate(time.process_time),
    }  # fmt: skip


def _random(params: Any, seed: int) -> Any:
    """Scales and statistics that are not all alike."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda v: v * jnp.asarray(1 + 0.2 * rng.random(v.shape), v.dtype) if v.ndim < 2 else v,
        params,
    )


def _seconds(function: Any) -> float:
    start = time.process_time()
    jax.block_until_ready(jax.tree.leaves(function().path))
    return time.process_time() - start


def _flops(network: mcjax.Network, params: Any, x: Any) -> float:
    """Of every stage: passes up to its readers, of A and of each point, and sums of products."""
    total = 0.0
    for stage in Plan(network).stages:
        names = [network.layers[n].name for n in stage.readers]
        if not names:
            continue

        def read(params: Any, x: Any, names: Any = names) -> Any:
            found = network.layer_inputs(params, x)
            return [found[n] for n in names]

        compiled = jax.jit(read).lower(params, x).compile()
        total += (POINTS + 1) * float(compiled.cost_analysis()["flops"])  # type: ignore[index]
        for n, values in zip(stage.readers, jax.eval_shape(read, params, x), strict=True):
            layer = network.layers[n]
            weight = network.leaf_types[layer.contraction.weight].shape
            rows, out = math.prod(weight[:-1]), weight[-1]
            samples = math.prod(values.shape[:-1])
            total += POINTS * samples * (rows**2 + 2 * rows * out)
    return total


def rows_of_layers(found: dict[str, Any]) -> list[tuple[str, ...]]:
    r = found["layerwise resnet20"]
    return [row(
        r, f"Linear + WA of ResNet20 layer by layer, {POINTS} t a leg, {N} images",
        f"{r['programs']} programs compiled, {r['seconds'] / r['floor']:.1f}× the arithmetic",
        f"≤ {r['allowed']}, ≤ 2×",
        f"CPU time {r['seconds']:.0f} s, {r['cold']:.0f} s cold; a second pair compiles "
        f"{r['again']}; random weights; the arithmetic at the rate of large products, by CPU time",
    )]  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(measure()))
