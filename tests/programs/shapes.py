"""Reshapes, transpositions, concatenations, slices, padding."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .builder import Builder, operation


@operation(3)
def reshape(b: Builder) -> None:
    i = b.pick()
    first = b.shape(i)[0]
    total = b.pool[i].size // first
    shape = [first]
    while total > 1 and len(shape) < 4:
        d = b.choose([d for d in range(2, total + 1) if total % d == 0])
        shape.append(d)
        total //= d
    shape.append(total)
    b.add(lambda p, v: v[i].reshape(shape))


@operation(2)
def merge_last(b: Builder) -> None:
    i = b.pick(3)
    b.add(lambda p, v: v[i].reshape(*v[i].shape[:-2], -1))


@operation(2)
def split_last(b: Builder) -> None:
    i = b.pick(2, 4)
    d = b.divisor(b.shape(i)[-1])
    b.add(lambda p, v: v[i].reshape(*v[i].shape[:-1], d, -1))


@operation(2)
def transpose(b: Builder) -> None:
    i = b.pick(3)
    order = [0, *(1 + b.rng.permutation(len(b.shape(i)) - 1))]
    b.add(lambda p, v: jnp.transpose(v[i], order))


@operation(2)
def concatenate(b: Builder) -> None:
    i, j = b.pick(), b.pick()
    axis = b.below(3, 1) if b.chance(0.7) else -1
    b.add(lambda p, v: jnp.concatenate([v[i], v[j]], axis if axis < 0 else axis % v[i].ndim))


@operation(1)
def concatenate_three(b: Builder) -> None:
    i, j = b.pick(), b.pick()
    w = b.weight(b.shape(i)[-1])
    b.add(lambda p, v: jnp.concatenate(
        [v[i], jnp.broadcast_to(w(p), v[i].shape), v[j]], -2 if v[i].ndim > 2 else -1))  # fmt: skip


@operation(1)
def stack(b: Builder) -> None:
    i, j = b.pick(), b.pick()
    axis = b.below(3, 1)
    b.add(lambda p, v: jnp.stack([v[i], v[j]], axis))


@operation(1)
def unstack(b: Builder) -> None:
    i = b.pick(3)
    d = b.axis(i)
    first, last = b.below(b.shape(i)[d]), b.below(b.shape(i)[d])

    def swapped(p, v):
        parts = list(jnp.unstack(v[i], axis=d))
        parts[first], parts[last] = parts[last], jnp.tanh(parts[first].real)
        return jnp.stack(parts, d)

    b.add(swapped)


@operation(2)
def take(b: Builder) -> None:
    i = b.pick()
    d = b.axis(i)
    n = b.shape(i)[d]
    start = b.below(n)
    stop = b.below(n + 1, start + 1)
    step = b.choose([1, 1, 1, 2])
    b.add(lambda p, v: jax.lax.slice_in_dim(v[i], start, stop, step, d))


@operation(2)
def split(b: Builder) -> None:
    i = b.pick()
    d = b.axis(i)
    n = b.shape(i)[d]
    k = b.choose([k for k in (2, 3, n) if n % k == 0])
    which = b.below(k)
    b.add(lambda p, v: jnp.split(v[i], k, d)[which])


@operation(1)
def split_unevenly(b: Builder) -> None:
    i = b.pick()
    d = b.axis(i)
    at = b.below(b.shape(i)[d], 1)

    def swapped(p, v):
        first, second = jnp.split(v[i], [at], d)
        return jnp.concatenate([2 * second, first], d)

    b.add(swapped)


@operation(1)
def rotate_half(b: Builder) -> None:
    i = b.pick()

    def rotary(p, v):
        first, second = jnp.split(v[i], 2, -1)
        return jnp.concatenate([-second, first], -1)

    b.add(rotary)


@operation(1)
def interleave(b: Builder) -> None:
    i = b.pick()
    if b.chance(0.5):
        b.add(lambda p, v: jax.nn.silu(v[i][..., ::2]) * v[i][..., 1::2])
    else:
        b.add(lambda p, v: jnp.stack([v[i], jnp.cos(v[i])], -1).reshape(*v[i].shape[:-1], -1))


@operation(1)
def pad(b: Builder) -> None:
    i = b.pick()
    d = b.axis(i)
    width = [(0, 0)] * len(b.shape(i))
    width[d] = (b.below(3), b.below(3))
    mode = b.choose(["constant", "constant", "constant", "edge", "wrap", "reflect"])
    b.add(lambda p, v: jnp.pad(v[i], width, mode=mode))


@operation(1)
def pad_general(b: Builder) -> None:
    """Cropped, or with gaps between the positions."""
    i = b.pick()
    d = b.axis(i)
    config = [(0, 0, 0)] * len(b.shape(i))
    config[d] = (b.below(4) - 2, b.below(4) - 2, b.below(2))
    b.add(lambda p, v: jax.lax.pad(v[i], jnp.asarray(0.3, v[i].dtype), config))


@operation(1)
def repeat(b: Builder) -> None:
    i = b.pick()
    d = b.axis(i)
    k = b.choose((2, 3))
    if b.chance(0.5):
        b.add(lambda p, v: jnp.repeat(v[i], k, d))
    else:
        reps = [k if a == d else 1 for a in range(len(b.shape(i)))]
        b.add(lambda p, v: jnp.tile(v[i], reps))


@operation(1)
def repeat_unevenly(b: Builder) -> None:
    i = b.pick()
    d = b.axis(i)
    counts = b.rng.integers(0, 3, b.shape(i)[d])
    b.add(lambda p, v: jnp.repeat(v[i], counts, d, total_repeat_length=int(counts.sum())))


@operation(1)
def mix_positions(b: Builder) -> None:
    i = b.pick()
    d = b.axis(i)
    shift = b.below(3) - 1
    f = b.choose([
        jnp.flip, jnp.sort, lambda a, axis: jnp.roll(a, shift, axis),
        lambda a, axis: jnp.diff(a, axis=axis),
    ])  # fmt: skip
    b.add(lambda p, v: f(v[i], axis=d))


@operation(1)
def roll_by_data(b: Builder) -> None:
    i, j = b.pick(), b.pick(1)
    d = b.axis(i)
    b.add(lambda p, v: jnp.roll(v[i], (jnp.sum(jnp.real(v[j])) > 0.0123).astype(int), d))


@operation(1)
def both_directions(b: Builder) -> None:
    """Positions beside themselves reversed; a square of that multiplies itself."""
    i = b.pick()
    d = b.axis(i)
    b.add(lambda p, v: jnp.concatenate([jnp.flip(v[i], -1), v[i]], d))


@operation(1)
def matrix_square(b: Builder) -> None:
    i = b.pick()
    b.add(lambda p, v: v[i] @ v[i])


@operation(1)
def diagonal(b: Builder) -> None:
    i = b.pick(3)
    b.add(lambda p, v: jnp.diagonal(v[i], axis1=-2, axis2=-1))


@operation(2)
def share_over_axis(b: Builder) -> None:
    """One vector added along an axis whose units may be permuted for each index of another."""
    i = b.pick(3)
    w = b.weight(b.shape(i)[1], 1)
    b.add(lambda p, v: v[i] + jnp.expand_dims(w(p), tuple(range(2, v[i].ndim)))[..., 0])
