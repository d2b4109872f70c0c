"""Gathers and scatters: along shared axes, by constants, by data, by tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .builder import Builder, UnfitError, operation

Indices = Callable[[Any, Any], Any]


def vector(b: Builder, n: int, count: int) -> Indices:
    """`count` indices below n."""
    kind = b.below(9)
    if kind == 0:
        index = np.arange(count)[::-1] % n
    elif kind == 1:
        index = np.full(count, n - 1)
    elif kind == 2:
        index = np.repeat(np.arange(n), 2)[:count] if 2 * n >= count else np.arange(count) % n
    elif kind == 3:
        return lambda p, v: jnp.arange(count) % n if count > n else jnp.arange(count)
    elif kind == 4:  # by numbers
        i = b.pick(1)
        return lambda p, v: jnp.resize((jnp.real(v[i]) > 0.0123).astype(int) * (n - 1), count)
    elif kind in (5, 6):  # by names
        fit = [i for i, v in enumerate(b.pool) if v.ndim == 2 and v.shape == (count, n)]
        if not fit:
            raise UnfitError
        i = b.choose(fit)
        f = jnp.argmax if kind == 5 else jnp.argmin
        return lambda p, v: f(jnp.real(v[i]), -1)
    elif kind == 7:
        i = b.pick()
        if b.shape(i)[-1] != n or count > n:
            raise UnfitError
        return lambda p, v: jnp.argsort(jnp.abs(v[i]).sum(range(v[i].ndim - 1)))[:count]
    else:
        index = b.rng.integers(0, n, count)
    return lambda p, v: index


@operation(2)
def gather(b: Builder) -> None:
    i = b.pick()
    d = b.axis(i)
    index = vector(b, b.shape(i)[d], b.choose((1, 2, 3, b.shape(i)[d])))
    mode = b.choose([None, "clip", "wrap", "fill"])
    b.add(lambda p, v: jnp.take(v[i], index(p, v), axis=d, mode=mode))


@operation(3)
def take_along(b: Builder) -> None:
    """Indices along one axis for each index of the others, or the same for all of some."""
    i = b.pick()
    d = b.axis(i)
    s = b.shape(i)
    n, k = s[d], b.choose((1, 2, s[d]))
    shared = [a for a in range(len(s)) if a != d and b.chance(0.4)]
    shape = [k if a == d else 1 if a in shared else m for a, m in enumerate(s)]
    full = [k if a == d else m for a, m in enumerate(s)]
    kind, repeat = b.below(7), b.chance(0.5)
    constant = b.rng.integers(0, n, shape)
    e = b.axis(i)

    def indices(p, v):
        h = jnp.real(v[i])
        if kind == 0:
            index = jnp.asarray(constant)
        elif kind == 1:
            index = jnp.full(shape, n - 1)
        elif kind == 2:
            index = jax.lax.broadcasted_iota(int, shape, d)[::1]
            index = n - 1 - index
        elif kind == 3:
            index = jnp.argmax(h, d, keepdims=True)
        elif kind == 4:
            index = jax.lax.slice_in_dim(jnp.argsort(h, d), 0, k, axis=d)
        elif kind == 5:  # the largest in norm over another axis
            index = jnp.argmax(jnp.square(h).sum(e, keepdims=True), d, keepdims=True)
        else:
            index = (h.sum(d, keepdims=True) > 0.0123).astype(int) * (n - 1)
        return jnp.broadcast_to(index, full) if repeat else index

    b.add(lambda p, v: jnp.take_along_axis(v[i], indices(p, v), d))


@operation(1)
def pick_rows(b: Builder) -> None:
    """x[arange(batch), index]"""
    i = b.pick(3)
    s = b.shape(i)
    index = vector(b, s[1], s[0])
    arange, reverse = b.choose([jnp.arange, np.arange]), b.choose([1, 1, -1])
    b.add(lambda p, v: v[i][arange(s[0])[::reverse], index(p, v)])


@operation(1)
def pick_pairs(b: Builder) -> None:
    """Two index vectors at once, side by side or with a slice between them."""
    i = b.pick(3)
    s = b.shape(i)
    count = b.choose((2, 3))
    first, second = vector(b, s[1], count), vector(b, s[-1], count)
    b.add(lambda p, v: jnp.moveaxis(v[i][:, first(p, v), ..., second(p, v)], 0, -1)
          if v[i].ndim > 3 else v[i][:, first(p, v), second(p, v)])  # fmt: skip


@operation(1)
def grid(b: Builder) -> None:
    i = b.pick(3)
    s = b.shape(i)
    first, second = vector(b, s[1], 2), vector(b, s[2], 3)
    b.add(lambda p, v: v[i][:, first(p, v)[:, None], second(p, v)[None, :]])


@operation(2)
def embed(b: Builder) -> None:
    """A table looked up by tokens, or by positions."""
    integer = [i for i, v in enumerate(b.pool) if jnp.issubdtype(v.dtype, jnp.integer)]
    n = b.size()
    table = b.weight(4, n)
    if integer and b.chance(0.8):
        i = b.choose(integer)
        mode = b.choose(["clip", "wrap", None])
        b.add(lambda p, v: jnp.take(table(p), v[i], axis=0, mode=mode))
    else:
        i = b.pick()
        index = vector(b, 4, b.shape(i)[-2])
        b.add(lambda p, v: v[i] @ jnp.zeros((v[i].shape[-1], n)) + table(p)[index(p, v)])


@operation(1)
def one_hot(b: Builder) -> None:
    integer = [i for i, v in enumerate(b.pool) if jnp.issubdtype(v.dtype, jnp.integer)]
    if not integer:
        raise UnfitError
    i, n = b.choose(integer), b.size()
    b.add(lambda p, v: jax.nn.one_hot(v[i], n, dtype=float))


@operation(3)
def scatter(b: Builder) -> None:
    """`.at[…, index, …]` with a scalar, a weight or values of the array itself."""
    i = b.pick()
    d = b.axis(i)
    s = b.shape(i)
    count = b.choose((1, 2, 3))
    index = vector(b, s[d], count)
    how = b.choose(["set", "add", "multiply", "max", "min"])
    w = b.weight(s[-1])
    kind = b.below(4)

    def written(p, v):
        where = (slice(None),) * d + (index(p, v),)
        h = v[i] * 1.0
        if kind == 0:
            update = 0.37
        elif kind == 1 and d != h.ndim - 1:
            update = w(p)
        elif kind == 2:
            update = jnp.flip(h, 0)[where]
        else:
            update = jnp.tanh(h)[(slice(None),) * d + (slice(0, 1),)]
        return getattr(h.at[where], how)(update)

    b.add(written)


@operation(2)
def scatter_vmapped(b: Builder) -> None:
    """An index of its own for each example (or for each of two axes)."""
    i = b.pick(2, 4)
    s = b.shape(i)
    twice = b.chance(0.3) and len(s) > 2
    left = len(s) - 1 - twice
    if left < 1:
        raise UnfitError
    d = b.below(left)
    how = b.choose(["set", "add", "multiply", "max"])
    kind = b.below(4)
    w = b.weight(s[-1])

    def write(p):
        def one(h):
            if kind == 0:
                index = jnp.argmax(h, d) if h.ndim == 1 else jnp.argmax(jnp.square(h).sum(-1), -1)
            elif kind == 1:
                index = (h.sum() > 0.0123).astype(int)
            elif kind == 2:
                index = np.array([0, h.shape[d] - 1])
            else:
                index = jnp.argmax(jnp.real(w(p)))
            return getattr(h.at[(slice(None),) * d + (index,)], how)(0.41)

        return jax.vmap(jax.vmap(one)) if twice else jax.vmap(one)

    b.add(lambda p, v: write(p)(jnp.real(v[i]) * 1.0))


@operation(1)
def put_along(b: Builder) -> None:
    i = b.pick()
    d = b.axis(i)

    def written(p, v):
        h = jnp.real(v[i])
        index = jnp.argmax(h, d, keepdims=True)
        return jnp.put_along_axis(h, index, 0.31, d, inplace=False)

    b.add(written)


@operation(1)
def segments(b: Builder) -> None:
    i = b.pick()
    d = b.axis(i)
    n = b.shape(i)[d]
    index = vector(b, 3, n)
    f = b.choose([jax.ops.segment_sum, jax.ops.segment_max, jax.ops.segment_prod])

    def summed(p, v):
        h = jnp.moveaxis(jnp.real(v[i]), d, 0)
        return jnp.moveaxis(jnp.tanh(f(h, index(p, v), num_segments=3)), 0, d)

    b.add(summed)


@operation(4)
def dynamic_slice(b: Builder) -> None:
    i = b.pick()
    d = b.axis(i)
    s = b.shape(i)
    k = b.below(s[d] + 1, 1)
    j = b.pick(1)
    update = b.chance(0.5)

    def sliced(p, v):
        start = (jnp.sum(jnp.real(v[j])) > 0.0123).astype(int)
        if update:
            part = jnp.full([k if a == d else n for a, n in enumerate(s)], 0.29)
            return jax.lax.dynamic_update_slice_in_dim(jnp.real(v[i]) * 1.0, part, start, d)
        return jax.lax.dynamic_slice_in_dim(v[i], start, k, d)

    b.add(sliced)


@operation(1)
def dynamic_slice_vmapped(b: Builder) -> None:
    i = b.pick(3)
    s = b.shape(i)
    k = b.below(s[-1] + 1, 1)
    d = b.below(len(s) - 1)
    update = b.chance(0.4)

    def one(h):
        start = (h.sum() > 0.0123).astype(int)
        if update:
            return jax.lax.dynamic_update_slice_in_dim(h, h[:k] * 0 + 0.2, start, d)
        return jax.lax.dynamic_slice_in_dim(h, start, min(k, h.shape[d]), d)

    b.add(lambda p, v: jax.vmap(one)(jnp.real(v[i]) * 1.0))


@operation(1)
def index_by_scan(b: Builder) -> None:
    """A loop over indices that are used to read and to write."""
    i = b.pick(2, 3)
    d = b.axis(i)
    n = b.shape(i)[d]

    def looped(p, v):
        def step(h, k):
            row = jax.lax.dynamic_index_in_dim(h, k, d, keepdims=False)
            return jax.lax.dynamic_update_index_in_dim(h, jnp.tanh(row), n - 1 - k, d), row.sum()

        h, sums = jax.lax.scan(step, jnp.real(v[i]) * 1.0, jnp.arange(n))
        return h + sums.sum()

    b.add(looped)
