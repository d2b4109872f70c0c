"""Functions of parameters alone: tied, normalised, masked, composed weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .builder import Builder

Weight = Callable[[Any], Any]


def derived(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    """A weight of that shape made of others; None where the kind drawn does not fit."""
    return b.choose(_KINDS)(b, shape)


def _normed(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    w, axis = b.param(*shape), b.below(len(shape))
    g = b.param(shape[-1])
    return lambda p: p[g] * p[w] / (0.1 + jnp.linalg.norm(p[w], axis=axis, keepdims=True))


def _spectral(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    if len(shape) != 2:
        return None
    w = b.param(*shape)
    start = np.ones(shape[1]) if b.chance(0.6) else b.constant(shape[1])

    def normalised(p):
        def power(_, v):
            u = p[w] @ v
            v = jnp.conj(u) @ p[w]
            return v / (0.1 + jnp.sqrt(jnp.sum(jnp.abs(v) ** 2)))

        v = jax.lax.fori_loop(0, 2, power, jnp.asarray(start, p[w].dtype))
        return p[w] / (0.1 + jnp.abs(jnp.vdot(v, v)))

    return normalised


def _triangle(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    if len(shape) < 2:
        return None
    w, f = b.param(*shape), b.choose([jnp.triu, jnp.tril])
    k = b.below(3) - 1
    return lambda p: f(p[w], k)


def _softmax(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    w, axis = b.param(*shape), b.below(len(shape))
    return lambda p: jax.nn.softmax(jnp.real(p[w]), axis)


def _outer(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    if len(shape) != 2:
        return None
    u, v = b.param(shape[0]), b.param(shape[1])
    add = b.chance(0.5)
    return lambda p: p[u][:, None] + p[v] if add else jnp.outer(p[u], p[v])


def _kronecker(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    if len(shape) != 2 or any(n not in (4, 6) for n in shape):
        return None
    w = b.param(2, 2)
    u = b.param(shape[0] // 2, shape[1] // 2)
    return lambda p: jnp.kron(p[w], p[u])


def _square(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    if len(shape) != 2 or shape[0] != shape[1]:
        return None
    n = b.size()
    w = b.param(shape[0], n)
    return lambda p: p[w] @ p[w].T


def _low_rank(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    if len(shape) < 2:
        return None
    n = b.size()
    u, v = b.param(*shape[:-1], n), b.param(n, shape[-1])
    return lambda p: p[u] @ p[v]


def _transposed(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    w = b.param(*shape[::-1])
    return lambda p: p[w].T


def _sum(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    w, u = b.param(*shape), b.param(*shape)
    return lambda p: p[w] + p[u]


def _parts(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    if shape[-1] < 2:
        return None
    k = b.below(shape[-1], 1)
    w, u = b.param(*shape[:-1], k), b.param(*shape[:-1], shape[-1] - k)
    return lambda p: jnp.concatenate([p[w], p[u]], -1)


def _mixed(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    w, axis = b.param(*shape), b.below(len(shape))
    f = b.choose([
        jnp.flip, jnp.cumsum, lambda a, axis: jnp.sort(jnp.real(a), axis),
        lambda a, axis: jnp.roll(a, 1, axis),
        lambda a, axis: jnp.take(a, np.arange(a.shape[axis])[::-1], axis),
        lambda a, axis: a - a.mean(axis, keepdims=True),
    ])  # fmt: skip
    return lambda p: f(p[w], axis=axis)


def _layer(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    w, k = b.param(3, *shape), b.below(3)
    return lambda p: p[w][k]


def _diagonal(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    if len(shape) != 2 or shape[0] != shape[1]:
        return None
    if b.chance(0.5):
        w = b.param(shape[0])
        return lambda p: jnp.diag(p[w])
    w = b.param(*shape)
    return lambda p: jnp.eye(shape[0]) * 0.5 + p[w]


def _masked(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    w, mask = b.param(*shape), b.constant(*shape)
    return lambda p: p[w] * mask


def _complex(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    w, u = b.param(*shape), b.param(*shape)
    f = b.choose([jnp.abs, jnp.real, jnp.conj, lambda a: a])
    return lambda p: f(p[w] + 1j * p[u])


def _blocks(b: Builder, shape: tuple[int, ...]) -> Weight | None:
    """Repeated or tiled along an axis."""
    axis = b.below(len(shape))
    if shape[axis] % 2:
        return None
    w = b.param(*(n // 2 if d == axis else n for d, n in enumerate(shape)))
    if b.chance(0.5):
        return lambda p: jnp.repeat(p[w], 2, axis)
    return lambda p: jnp.concatenate([p[w], p[w]], axis)


_KINDS = [
    _normed, _spectral, _triangle, _softmax, _outer, _kronecker, _square, _low_rank, _transposed,
    _sum, _parts, _mixed, _layer, _diagonal, _masked, _complex, _blocks,
]  # fmt: skip
