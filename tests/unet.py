"""A U-net as in denoising diffusion (Ho, Jain and Abbeel 2020), of any width."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class Residual(nn.Module):
    width: int
    groups: int

    @nn.compact
    def __call__(self, x, time):
        h = nn.Conv(self.width, (3, 3))(nn.silu(nn.GroupNorm(self.groups)(x)))
        h = h + nn.Dense(self.width)(nn.silu(time))[:, None, None]
        h = nn.Conv(self.width, (3, 3))(nn.silu(nn.GroupNorm(self.groups)(h)))
        return h + (x if x.shape[-1] == self.width else nn.Conv(self.width, (1, 1))(x))


class Attention(nn.Module):
    groups: int
    heads: int

    @nn.compact
    def __call__(self, x):
        h = nn.GroupNorm(self.groups)(x).reshape(x.shape[0], -1, x.shape[-1])
        return x + nn.MultiHeadDotProductAttention(self.heads)(h).reshape(x.shape)


class UNet(nn.Module):
    """Residual blocks down, in the middle and up; every stage's outputs come back beside the rest.

    `widths` are those of the resolutions; attention is at the lowest.
    """

    widths: tuple[int, ...] = (8, 16)
    blocks: int = 2
    groups: int = 4
    heads: int = 2

    @nn.compact
    def __call__(self, x, t):
        angles = t[:, None] * jnp.exp(-jnp.arange(4) * 2.0)
        time = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
        time = nn.Dense(2 * self.widths[0])(nn.silu(nn.Dense(2 * self.widths[0])(time)))
        last = len(self.widths) - 1
        h = nn.Conv(self.widths[0], (3, 3))(x)
        skips = [h]
        for i, width in enumerate(self.widths):
            for _ in range(self.blocks):
                h = Residual(width, self.groups)(h, time)
                if i == last:
                    h = Attention(self.groups, self.heads)(h)
                skips.append(h)
            if i < last:
                h = nn.Conv(width, (3, 3), strides=2)(h)
                skips.append(h)
        h = Residual(self.widths[-1], self.groups)(h, time)
        h = Attention(self.groups, self.heads)(h)
        h = Residual(self.widths[-1], self.groups)(h, time)
        for i, width in reversed(list(enumerate(self.widths))):
            for _ in range(self.blocks + 1):
                h = Residual(width, self.groups)(jnp.concatenate([h, skips.pop()], -1), time)
                if i == last:
                    h = Attention(self.groups, self.heads)(h)
            if i:
                h = nn.Conv(width, (3, 3))(jnp.repeat(jnp.repeat(h, 2, 1), 2, 2))
        return nn.Conv(3, (3, 3))(nn.silu(nn.GroupNorm(self.groups)(h)))


def unet(**sizes):
    """(apply_fn of parameters and (images, times), parameters, inputs)."""
    model = UNet(**sizes)
    side = 4 * 2 ** (len(model.widths) - 1)
    x = {"x": jax.random.normal(jax.random.key(1), (2, side, side, 3)), "t": np.float32([1, 30])}
    params = jax.jit(lambda key: model.init(key, **x))(jax.random.key(0))

    def apply_fn(params, inputs):
        return model.apply(params, **inputs)

    return apply_fn, params, x
