"""Architectures that no package at hand has: short versions of our own, by the papers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .row import Groups, Model, Row

FRAMEWORK = "written here"
WIDTH, LAYERS = 16, 2


class S4D(nn.Module):
    """S4 with a diagonal state matrix (gu2022): complex states of each unit, as a recurrence."""

    states: int = 4

    @nn.compact
    def __call__(self, u: jax.Array) -> jax.Array:
        width, n = u.shape[-1], self.states
        normal = nn.initializers.normal(1.0)
        steps = jnp.exp(self.param("log_dt", nn.initializers.constant(-2.0), (width,)))
        real = -jnp.exp(self.param("log_a", normal, (width, n)))
        poles = real + 1j * self.param("imaginary", normal, (width, n))
        c = self.param("c_real", normal, (width, n)) + 1j * self.param("c_imag", normal, (width, n))
        decay = jnp.exp(poles * steps[:, None])
        gain = c * (decay - 1) / poles

        def step(state: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
            state = decay * state + value[..., None]
            return state, 2 * (gain * state).sum(-1).real

        start = jnp.zeros((u.shape[0], width, n), jnp.complex64)
        _, out = jax.lax.scan(step, start, jnp.moveaxis(u, 1, 0))
        return jnp.moveaxis(out, 0, 1) + u * self.param("d", normal, (width,))


class Mamba(nn.Module):
    """A selective state space (gu2023): steps, inputs and outputs of the state depend on data."""

    inner: int = 24
    states: int = 4
    rank: int = 3

    @nn.compact
    def __call__(self, u: jax.Array) -> jax.Array:
        x, gate = jnp.split(nn.Dense(2 * self.inner)(u), 2, -1)
        x = nn.Conv(self.inner, (3,), padding="CAUSAL", feature_group_count=self.inner)(x)
        x = nn.silu(x)
        rank, b, c = jnp.split(
            nn.Dense(self.rank + 2 * self.states, use_bias=False)(x),
            (self.rank, self.rank + self.states), -1,
        )  # fmt: skip
        dt = nn.softplus(nn.Dense(self.inner)(rank))
        a = -jnp.exp(self.param("log_a", nn.initializers.normal(1.0), (self.inner, self.states)))

        def step(h: jax.Array, now: Any) -> tuple[jax.Array, jax.Array]:
            x, dt, b, c = now
            h = jnp.exp(dt[..., None] * a) * h + (dt * x)[..., None] * b[:, None]
            return h, (h * c[:, None]).sum(-1)

        start = jnp.zeros((u.shape[0], self.inner, self.states))
        _, out = jax.lax.scan(step, start, tuple(jnp.moveaxis(v, 1, 0) for v in (x, dt, b, c)))
        out = jnp.moveaxis(out, 0, 1) + x * self.param("d", nn.initializers.ones, (self.inner,))
        return nn.Dense(u.shape[-1])(out * nn.silu(gate))


class Sequence(nn.Module):
    """Layers of a kind on a residual stream, read from its mean."""

    layer: Callable[[], nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = nn.Dense(WIDTH)(x)
        for _ in range(LAYERS):
            h = h + self.layer()(nn.LayerNorm()(h))
            h = h + nn.Dense(WIDTH)(nn.gelu(nn.Dense(2 * WIDTH)(nn.LayerNorm()(h))))
        return nn.Dense(5)(h.mean(1))


class UNet(nn.Module):
    """Two levels down and up, skips concatenated (ronneberger2015), GroupNorm."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def twice(h: jax.Array, n: int) -> jax.Array:
            for _ in range(2):
                h = nn.relu(nn.GroupNorm(None, group_size=1)(nn.Conv(n, (3, 3))(h)))
            return h

        one = twice(x, 8)
        two = twice(nn.max_pool(one, (2, 2), (2, 2)), 12)
        low = twice(nn.max_pool(two, (2, 2), (2, 2)), 16)
        up = nn.ConvTranspose(12, (2, 2), (2, 2))(low)
        up = twice(jnp.concatenate([up, two], -1), 12)
        up = nn.ConvTranspose(8, (2, 2), (2, 2))(up)
        return nn.Conv(3, (1, 1))(twice(jnp.concatenate([up, one], -1), 8))


def row(name: str, module: nn.Module, shape: tuple[int, ...], groups: Groups, **more: Any) -> Row:
    def build() -> Model:
        x = np.random.default_rng(0).normal(size=(2, *shape)).astype("f4")
        params = jax.jit(module.init)(jax.random.key(0), x)
        return module.apply, params, x

    return Row(name, FRAMEWORK, build, groups, **more)


HIDDEN = {(WIDTH,): 1, (2 * WIDTH,): LAYERS}
ROWS = [
    # In each unit its poles; in Mamba the states are those of all units.
    row("S4D", Sequence(S4D), (9, 6), {**HIDDEN, (WIDTH, 4): LAYERS}),
    row("Mamba", Sequence(Mamba), (9, 6),
        {**HIDDEN, (24,): LAYERS, (4,): LAYERS, (3,): LAYERS}),
    row("U-net", UNet(), (16, 16, 3), {(8,): 5, (12,): 5, (16,): 2}),
]  # fmt: skip
