"""Random programs over jax's primitives, for fuzzing the tracer.

A program carries a pool of arrays of shape (batch, …) and applies random operations to random
members of it; parameters are made on demand. Sizes are few, so that axes meet by accident.
Thresholds are not zero: a sum that vanishes but for rounding would decide by its rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

SIZES = (2, 3, 4, 6)


class Builder:
    """Runs once to decide on the operations; the decisions then form a pure function."""

    def __init__(self, seed: int, steps: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.steps: list[Callable] = []
        self.params: list[np.ndarray] = []
        self.x = self.rng.normal(size=(2, 4))
        self.pool = [jax.eval_shape(lambda: self.x)]
        for _ in range(steps):
            self.step()

    def param(self, *shape: int) -> int:
        """A new parameter, or an old one of that shape (weight tying)."""
        same = [i for i, p in enumerate(self.params) if p.shape == shape]
        if same and self.rng.random() < 0.2:
            return int(self.rng.choice(same))
        self.params.append(self.rng.normal(size=shape) / max(shape[0], 1) ** 0.5)
        return len(self.params) - 1

    def pick(self) -> int:
        weights = np.arange(1, len(self.pool) + 1, dtype=float)
        return int(self.rng.choice(len(self.pool), p=weights / weights.sum()))

    def add(self, function: Callable) -> None:
        """Append an operation (params, pool) → array if it runs and stays small."""
        try:
            value = jax.eval_shape(function, self.params, self.pool)
        except (TypeError, ValueError):
            return
        if value.size > 1500 or value.ndim > 5:
            return
        self.steps.append(function)
        self.pool.append(value)

    def step(self) -> None:
        name = self.rng.choice(list(OPERATIONS))
        OPERATIONS[name](self)

    def function(self) -> Callable:
        steps, readout = list(self.steps), self.rng.random() < 0.8

        def apply_fn(params, x):
            pool = [x]
            for step in steps:
                pool.append(step(params, pool))
            # Sums over everything keep every symmetry; a plain output fixes its axes.
            last = [jnp.sum(jnp.sin(v)) for v in pool[-3:]]
            return last if readout else [*last, jnp.tanh(pool[-1])]

        return apply_fn


OPERATIONS: dict[str, Callable[[Builder], None]] = {}


def operation(weight: int = 1):
    def register(function):
        for i in range(weight):
            OPERATIONS[f"{function.__name__}{i}"] = function
        return function

    return register


@operation(4)
def dense(b: Builder) -> None:
    i = b.pick()
    w = b.param(b.pool[i].shape[-1], int(b.rng.choice(SIZES)))
    b.add(lambda p, v: v[i] @ p[w])


@operation(2)
def contract_middle(b: Builder) -> None:
    i = b.pick()
    if b.pool[i].ndim < 3:
        return
    d = int(b.rng.integers(1, b.pool[i].ndim))
    w = b.param(b.pool[i].shape[d], int(b.rng.choice(SIZES)))
    b.add(lambda p, v: jnp.moveaxis(jnp.tensordot(v[i], p[w], (d, 0)), -1, d))


@operation(2)
def dense_general(b: Builder) -> None:
    i = b.pick()
    w = b.param(b.pool[i].shape[-1], *map(int, b.rng.choice(SIZES, 2)))
    b.add(lambda p, v: jnp.tensordot(v[i], p[w], 1))


@operation(2)
def batched_dense(b: Builder) -> None:
    """A weight for each index of another axis: experts, heads, positions."""
    i = b.pick()
    if b.pool[i].ndim < 3:
        return
    s = b.pool[i].shape
    w = b.param(s[1], s[-1], int(b.rng.choice(SIZES)))
    b.add(lambda p, v: jnp.einsum("be...d,edh->be...h", v[i], p[w]))


@operation(2)
def bias(b: Builder) -> None:
    i = b.pick()
    w = b.param(*b.pool[i].shape[-int(b.rng.integers(1, 3)) :])
    multiply = b.rng.random() < 0.4
    b.add(lambda p, v: v[i] * p[w] if multiply else v[i] + p[w])


@operation(2)
def nonlinearity(b: Builder) -> None:
    i = b.pick()
    f = [jax.nn.relu, jnp.tanh, jax.nn.gelu, jax.jit(jax.nn.silu), jax.checkpoint(jnp.sin)][
        int(b.rng.integers(5))
    ]
    b.add(lambda p, v: f(v[i]))


@operation(3)
def combine(b: Builder) -> None:
    i, j = b.pick(), b.pick()
    f = [jnp.add, jnp.multiply, jnp.maximum, lambda a, c: jnp.where(a > 0.0123, a, c)][
        int(b.rng.integers(4))
    ]
    b.add(lambda p, v: f(v[i], v[j]))


@operation(2)
def outer_combine(b: Builder) -> None:
    """Two arrays broadcast against each other: the same axis may appear twice."""
    i, j = b.pick(), b.pick()
    b.add(lambda p, v: v[i][..., :, None] * v[j][..., None, :])


@operation(2)
def gram(b: Builder) -> None:
    i, j = b.pick(), b.pick()
    b.add(lambda p, v: jax.nn.softmax(jnp.einsum("...td,...sd->...ts", v[i], v[j])))


@operation(2)
def attend(b: Builder) -> None:
    i, j = b.pick(), b.pick()
    b.add(lambda p, v: jnp.einsum("...ts,...sd->...td", v[i], v[j]))


@operation(3)
def reshape(b: Builder) -> None:
    i = b.pick()
    total = b.pool[i].size // 2
    shape = [2]
    while total > 1 and len(shape) < 4:
        divisors = [d for d in range(2, total + 1) if total % d == 0]
        d = int(b.rng.choice(divisors))
        shape.append(d)
        total //= d
    shape.append(total)
    b.add(lambda p, v: v[i].reshape(shape))


@operation(2)
def merge_last(b: Builder) -> None:
    i = b.pick()
    b.add(lambda p, v: v[i].reshape(*v[i].shape[:-2], -1) if v[i].ndim > 2 else v[i])


@operation(2)
def split_last(b: Builder) -> None:
    i = b.pick()
    n = b.pool[i].shape[-1]
    divisors = [d for d in range(2, n) if n % d == 0]
    if divisors:
        d = int(b.rng.choice(divisors))
        b.add(lambda p, v: v[i].reshape(*v[i].shape[:-1], d, -1))


@operation(1)
def transpose(b: Builder) -> None:
    i = b.pick()
    order = [0, *(1 + b.rng.permutation(b.pool[i].ndim - 1))]
    b.add(lambda p, v: jnp.transpose(v[i], order))


@operation(2)
def normalise(b: Builder) -> None:
    i = b.pick()
    axis = int(b.rng.integers(1, b.pool[i].ndim))
    b.add(lambda p, v: (v[i] - v[i].mean(axis, keepdims=True))
          / (1 + jnp.square(v[i]).mean(axis, keepdims=True)))  # fmt: skip


@operation(1)
def reduce(b: Builder) -> None:
    i = b.pick()
    if b.pool[i].ndim > 2:
        axis = int(b.rng.integers(1, b.pool[i].ndim))
        f = [jnp.sum, jnp.max, jnp.mean][int(b.rng.integers(3))]
        b.add(lambda p, v: f(v[i], axis))


@operation(2)
def concatenate(b: Builder) -> None:
    i, j = b.pick(), b.pick()
    axis = int(b.rng.integers(1, 3))
    b.add(lambda p, v: jnp.concatenate([v[i], v[j]], axis % v[i].ndim))


@operation(1)
def stack(b: Builder) -> None:
    i, j = b.pick(), b.pick()
    axis = int(b.rng.integers(1, 3))
    b.add(lambda p, v: jnp.stack([v[i], v[j]], axis))


@operation(2)
def take(b: Builder) -> None:
    i = b.pick()
    d = int(b.rng.integers(1, b.pool[i].ndim))
    n = b.pool[i].shape[d]
    start = int(b.rng.integers(n))
    stop = int(b.rng.integers(start + 1, n + 1))
    step = int(b.rng.choice([1, 1, 1, 2]))
    b.add(lambda p, v: jax.lax.slice_in_dim(v[i], start, stop, step, d))


@operation(2)
def split(b: Builder) -> None:
    i = b.pick()
    d = int(b.rng.integers(1, b.pool[i].ndim))
    n = b.pool[i].shape[d]
    parts = [k for k in (2, 3) if n % k == 0]
    if parts:
        k = int(b.rng.choice(parts))
        which = int(b.rng.integers(k))
        b.add(lambda p, v: jnp.split(v[i], k, d)[which])


@operation(1)
def rotate_half(b: Builder) -> None:
    i = b.pick()
    if b.pool[i].shape[-1] % 2 == 0:

        def rotary(p, v):
            first, second = jnp.split(v[i], 2, -1)
            return jnp.concatenate([-second, first], -1)

        b.add(rotary)


@operation(1)
def index_param(b: Builder) -> None:
    """Layers stacked in one parameter, one of them taken by a static index."""
    i = b.pick()
    n = int(b.rng.choice(SIZES))
    w = b.param(3, b.pool[i].shape[-1], n)
    k = int(b.rng.integers(3))
    b.add(lambda p, v: v[i] @ p[w][k])


@operation(1)
def pad(b: Builder) -> None:
    i = b.pick()
    d = int(b.rng.integers(1, b.pool[i].ndim))
    width = [(0, 0)] * b.pool[i].ndim
    width[d] = tuple(map(int, b.rng.integers(0, 3, 2)))
    b.add(lambda p, v: jnp.pad(v[i], width))


@operation(1)
def mix_positions(b: Builder) -> None:
    i = b.pick()
    d = int(b.rng.integers(1, b.pool[i].ndim))
    f = [jnp.cumsum, jnp.flip, jnp.sort, lambda a, axis: jnp.roll(a, 1, axis)][
        int(b.rng.integers(4))
    ]
    b.add(lambda p, v: f(v[i], axis=d))


@operation(1)
def gather(b: Builder) -> None:
    i = b.pick()
    d = int(b.rng.integers(1, b.pool[i].ndim))
    index = b.rng.integers(0, b.pool[i].shape[d], 2)
    b.add(lambda p, v: jnp.take(v[i], index, axis=d))


@operation(1)
def convolve(b: Builder) -> None:
    i = b.pick()
    if b.pool[i].ndim != 3:
        return
    c = b.pool[i].shape[-1]
    groups = int(b.rng.choice([g for g in (1, 1, 2, 3, c) if c % g == 0]))
    w = b.param(2, c // groups, groups * int(b.rng.choice((1, 2))))
    b.add(lambda p, v: jax.lax.conv_general_dilated(
        v[i], p[w], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=groups))  # fmt: skip


@operation(2)
def scan(b: Builder) -> None:
    i = b.pick()
    d = b.pool[i].shape[-1]
    n = int(b.rng.choice(SIZES))
    w, u = b.param(3, d, n), b.param(3, n, d)
    kind = int(b.rng.integers(3))

    def layers(p, v):
        def step(h, ws):
            return h + jnp.tanh(h @ ws[0]) @ ws[1], h.sum(-1)

        h, ys = jax.lax.scan(step, v[i], (p[w], p[u]))
        return h if kind < 2 else jnp.moveaxis(ys, 0, -1)

    b.add(layers)


@operation(1)
def time_scan(b: Builder) -> None:
    i = b.pick()
    if b.pool[i].ndim != 3:
        return
    d, n = b.pool[i].shape[-1], int(b.rng.choice(SIZES))
    w, u = b.param(d, n), b.param(n, n)

    def recurrent(p, v):
        def step(h, x):
            h = jnp.tanh(h @ p[u] + x @ p[w])
            return h, h

        x = jnp.moveaxis(v[i], 1, 0)
        _, ys = jax.lax.scan(step, jnp.zeros((x.shape[1], n), x.dtype), x)
        return jnp.moveaxis(ys, 0, 1)

    b.add(recurrent)


@operation(1)
def loop(b: Builder) -> None:
    i = b.pick()
    d = b.pool[i].shape[-1]
    w = b.param(d, d)
    b.add(lambda p, v: jax.lax.fori_loop(0, 3, lambda k, h: jnp.sin(h @ p[w]) + h, v[i]))


@operation(1)
def branch(b: Builder) -> None:
    i = b.pick()
    w = b.param(b.pool[i].shape[-1], b.pool[i].shape[-1])
    b.add(
        lambda p, v: jax.lax.cond(v[i].sum() > 0.0123, lambda h: h @ p[w], lambda h: h * 2.0, v[i])
    )


@operation(1)
def share_over_axis(b: Builder) -> None:
    """One vector added along an axis whose units may be permuted for each index of another."""
    i = b.pick()
    if b.pool[i].ndim < 3:
        return
    w = b.param(b.pool[i].shape[1], 1)
    b.add(lambda p, v: v[i] + jnp.expand_dims(p[w], tuple(range(2, v[i].ndim)))[..., 0]
          if v[i].ndim > 2 else v[i])  # fmt: skip
