"""Tracing: ResNet20, a 12-layer transformer, and the evaluating interpreter's cost."""

from __future__ import annotations

import json
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp

import mcjax
from mcjax.network.activations import analysis_for
from mcjax.network.program import run

from .machine import best_of, once


class Block(nn.Module):
    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        def norm():
            return nn.BatchNorm(use_running_average=True)

        y = nn.Conv(self.width, (3, 3), strides=self.stride, use_bias=False)(x)
        y = norm()(nn.Conv(self.width, (3, 3), use_bias=False)(nn.relu(norm()(y))))
        if self.stride != 1 or x.shape[-1] != self.width:
            x = norm()(nn.Conv(self.width, (1, 1), strides=self.stride, use_bias=False)(x))
        return nn.relu(x + y)


class ResNet20(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(16, (3, 3))(x)))
        for i, width in enumerate((16, 32, 64)):
            for j in range(3):
                x = Block(width, 2 if i and not j else 1)(x)
        return nn.Dense(10)(x.mean((1, 2)))


class Transformer(nn.Module):
    layers: int = 12
    width: int = 256
    heads: int = 8

    @nn.compact
    def __call__(self, x):
        x = nn.Embed(1000, self.width)(x)
        for _ in range(self.layers):
            x = x + nn.MultiHeadDotProductAttention(self.heads)(nn.LayerNorm()(x))
            x = x + nn.Dense(self.width)(nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x))))
        return nn.Dense(10)(nn.LayerNorm()(x).mean(1))


MODELS = {
    "resnet20": (ResNet20(), lambda n: jax.random.normal(jax.random.key(0), (n, 32, 32, 3))),
    "transformer": (
        Transformer(),
        lambda n: jax.random.randint(jax.random.key(0), (n, 64), 0, 1000),
    ),
}


def measure(name: str) -> dict[str, float]:
    model, inputs = MODELS[name]
    x = inputs(2)
    params = model.init(jax.random.key(0), x)
    networks = []
    seconds = once(lambda: networks.append(mcjax.trace(model.apply, params, x)))
    network, x = networks[0], inputs(64)
    types = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), x)
    program = analysis_for(network, types)[0].program
    leaves = jax.tree.leaves(params)
    interpreted = jax.jit(lambda leaves, x: run(program, [*leaves, x])[0])
    plain = jax.jit(model.apply)
    ratio = min(
        best_of(lambda: interpreted(leaves, x), 10) / best_of(lambda: plain(params, x), 10)
        for _ in range(3)
    )
    return {"seconds": seconds, "groups": len(network.groups), "interpreter": ratio}


if __name__ == "__main__":
    jnp.zeros(1).block_until_ready()  # the backend's own start is not tracing
    print(json.dumps(measure(sys.argv[1])))
