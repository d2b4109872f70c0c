"""RegNetX (Radosavovic et al. 2020): residual blocks around a grouped convolution."""

from __future__ import annotations

import flax.linen as nn
import jax


def norm():
    return nn.BatchNorm(use_running_average=True)


class Block(nn.Module):
    width: int
    group: int
    stride: int

    @nn.compact
    def __call__(self, x):
        y = nn.relu(norm()(nn.Conv(self.width, (1, 1), use_bias=False)(x)))
        groups = self.width // self.group
        y = nn.Conv(self.width, (3, 3), self.stride, feature_group_count=groups, use_bias=False)(y)
        y = norm()(nn.Conv(self.width, (1, 1), use_bias=False)(nn.relu(norm()(y))))
        if self.stride != 1 or x.shape[-1] != self.width:
            x = norm()(nn.Conv(self.width, (1, 1), self.stride, use_bias=False)(x))
        return nn.relu(x + y)


class RegNet(nn.Module):
    """The defaults are those of RegNetX-3.2GF."""

    depths: tuple[int, ...] = (2, 6, 15, 2)
    widths: tuple[int, ...] = (96, 192, 432, 1008)
    group: int = 48
    stem: int = 32
    classes: int = 1000

    @nn.compact
    def __call__(self, x):
        x = nn.relu(norm()(nn.Conv(self.stem, (3, 3), 2, use_bias=False)(x)))
        for depth, width in zip(self.depths, self.widths, strict=True):
            for i in range(depth):
                x = Block(width, self.group, 1 if i else 2)(x)
        return nn.Dense(self.classes)(x.mean((1, 2)))


def regnet(side: int = 64, **sizes):
    """(apply_fn, the types of its parameters, inputs)."""
    model = RegNet(**sizes)
    x = jax.random.normal(jax.random.key(1), (2, side, side, 3))
    return model.apply, jax.eval_shape(model.init, jax.random.key(0), x), x
