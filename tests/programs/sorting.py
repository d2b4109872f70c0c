"""Sorts, top-k and what they name."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .builder import Builder, operation

# Before a choice: equal ones among the largest, where the first is told by its place.
_TIED = [
    lambda a: a, lambda a: a, jnp.tanh, jnp.square, jax.nn.relu, lambda a: -jax.nn.relu(a),
    jnp.sign, lambda a: a - a.max(-1, keepdims=True), lambda a: 0 * a,
    lambda a: jnp.cumsum(jax.nn.relu(a), 1),
]  # fmt: skip


@operation(1)
def sort_together(b: Builder) -> None:
    """Several operands, one or two of them keys."""
    i = b.pick()
    d = b.axis(i)
    same = [k for k, v in enumerate(b.pool) if v.shape == b.pool[i].shape]
    j, k = b.choose(same), b.choose(same)
    keys, which = b.choose((1, 2)), b.below(3)
    first = b.choose([jnp.real, jax.nn.relu, lambda a: jnp.round(jnp.real(a) * 1.3 + 0.11)])

    def ordered(p, v):
        third = v[k]
        if which == 0:
            third = jax.lax.broadcasted_iota(int, v[i].shape, d)
        operands = (first(v[i]), jnp.real(v[j]), third)
        return jax.lax.sort(operands, dimension=d, num_keys=keys)[which]

    b.add(ordered)


@operation(1)
def sort_by_names(b: Builder) -> None:
    """The second key names units."""
    i = b.pick(3)
    d, other = b.axis(i), b.axis(i)

    def ordered(p, v):
        v = jnp.real(v[i])
        names = jnp.broadcast_to(jnp.argmax(v, other, keepdims=True), v.shape)
        first = jnp.round(v * 0.3 + 0.11)
        return jax.lax.sort((first, names, v), dimension=d, num_keys=2)[2]

    b.add(ordered)


@operation(1)
def best(b: Builder) -> None:
    """The k largest, or their indices as numbers."""
    i = b.pick()
    k = b.below(b.shape(i)[-1] + 1, 1)
    which = 0 if b.chance(0.7) else 1
    b.add(lambda p, v: jax.lax.top_k(jnp.real(v[i]), k)[which])


@operation(1)
def arg(b: Builder) -> None:
    """Indices as numbers."""
    i = b.pick(2)
    d = b.axis(i)
    f = b.choose([jnp.argmax, jnp.argmin, jnp.argsort])
    b.add(lambda p, v: f(jnp.real(v[i]), axis=d) * 0.5)


@operation(2)
def hard_attention(b: Builder) -> None:
    """One-hot vectors of the largest, applied to an array or a weight."""
    i = b.pick()
    d = b.below(len(b.shape(i)), 1)
    n = b.shape(i)[d]
    w = b.weight(n, b.size())
    f = b.choose([jnp.argmax, jnp.argmin])
    weighted, tied = b.chance(0.5), b.choose(_TIED)

    def attend(p, v):
        v = jnp.moveaxis(tied(jnp.real(v[i])), d, -1)
        hot = jax.nn.one_hot(f(v, -1), n, dtype=v.dtype)
        return hot @ w(p) if weighted else hot * v

    b.add(attend)


@operation(2)
def routed(b: Builder) -> None:
    """Each of the k best experts, mixed by their scores."""
    i = b.pick(2, 3)
    n, k, m = b.shape(i)[-1], b.choose((1, 2)), b.size()
    gate, up = b.weight(n, 3), b.weight(3, n, m)
    hot, tied = b.below(3), b.choose(_TIED)

    def mixture(p, v):
        h = jnp.real(v[i])
        score, which = jax.lax.top_k(tied(jnp.real(h @ gate(p))), k)
        each = jnp.einsum("...d,edh->...eh", h, up(p))
        if hot == 0:
            chosen = jnp.take_along_axis(each, which[..., None], -2)
            return (chosen * score[..., None]).sum(-2)
        if hot == 1:
            weights = (jax.nn.one_hot(which, 3) * score[..., None]).sum(-2)
            return jnp.einsum("...e,...eh->...h", weights, each)
        return jnp.einsum("...k,...d,...kdh->...h", score, h, up(p)[which])

    b.add(mixture)


@operation(1)
def sorted_tokens(b: Builder) -> None:
    """Positions in the order of their norm, or of one of their units, all or the first few."""
    i = b.pick(3)
    s = b.shape(i)
    d = b.below(len(s) - 1, 1)
    k = b.below(s[d] + 1, 1)
    by_norm = b.chance(0.6)
    ascending = b.chance(0.5)

    def ordered(p, v):
        h = jnp.moveaxis(v[i], d, -2)
        key = jnp.sum(jnp.abs(h) ** 2, -1) if by_norm else jnp.real(h[..., 0])
        which = jnp.argsort(key, -1) if ascending else jax.lax.top_k(key, k)[1]
        return jnp.take_along_axis(h, which[..., None], -2)

    b.add(ordered)


@operation(1)
def ranks(b: Builder) -> None:
    """The inverse of a sort, and back."""
    i = b.pick()
    d = b.axis(i)

    def again(p, v):
        order = jnp.argsort(jnp.real(v[i]), axis=d)
        rank = jnp.argsort(order, axis=d)
        return jnp.take_along_axis(jnp.sort(jnp.real(v[i]), axis=d), rank, d)

    b.add(again)
