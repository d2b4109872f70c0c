"""Element-wise operations, normalisations, constants, integers, complex numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from .builder import Builder, operation


@operation(4)
def bias(b: Builder) -> None:
    i = b.pick()
    s = b.shape(i)
    w = b.weight(*s[-b.below(3, 1) :])
    f = b.choose([jnp.add, jnp.add, jnp.multiply, jnp.subtract])
    b.add(lambda p, v: f(v[i], w(p)))


@operation(4)
def nonlinearity(b: Builder) -> None:
    i = b.pick(1)
    f = b.choose([
        jax.nn.relu, jnp.tanh, jax.nn.gelu, jax.jit(jax.nn.silu), jax.checkpoint(jnp.sin),
        jnp.abs, jnp.sign, jax.nn.softplus, jax.nn.relu6, jax.nn.hard_tanh, jax.nn.elu,
        lambda a: jnp.clip(a, -0.5, 0.7),
    ])  # fmt: skip
    b.add(lambda p, v: f(v[i]))


@operation(4)
def combine(b: Builder) -> None:
    i, j = b.pick(1), b.pick(1)
    f = b.choose([
        jnp.add, jnp.multiply, jnp.maximum, lambda a, c: jnp.where(a > 0.0123, a, c),
        jnp.arctan2, jnp.copysign, lambda a, c: a / (1.3 + jnp.abs(c)),
    ])  # fmt: skip
    b.add(lambda p, v: f(v[i], v[j]))


@operation(2)
def normalise(b: Builder) -> None:
    i = b.pick()
    axis = b.axis(i)
    b.add(lambda p, v: (v[i] - v[i].mean(axis, keepdims=True))
          / (1 + jnp.square(v[i]).mean(axis, keepdims=True)))  # fmt: skip


@operation(1)
def softmax(b: Builder) -> None:
    i = b.pick()
    axis = b.axis(i)
    f = b.choose([jax.nn.softmax, jax.nn.log_softmax, jax.nn.standardize])
    b.add(lambda p, v: f(jnp.real(v[i]), axis=axis))


@operation(1)
def group_norm(b: Builder) -> None:
    i = b.pick()
    n = b.shape(i)[-1]
    g = b.divisor(n)

    def normed(p, v):
        h = v[i].reshape(*v[i].shape[:-1], g, n // g)
        h = h - h.mean(-1, keepdims=True)
        return (h / (1 + jnp.square(h).mean(-1, keepdims=True))).reshape(v[i].shape)

    b.add(normed)


@operation(2)
def reduce(b: Builder) -> None:
    i = b.pick(3)
    axis = b.axis(i)
    f = b.choose([
        jnp.sum, jnp.max, jnp.mean, jnp.prod, jnp.any, jnp.std, jax.nn.logsumexp, jnp.median,
        _over_a_mapped_axis,
    ])  # fmt: skip
    b.add(lambda p, v: f(v[i], axis))


def _over_a_mapped_axis(h, axis):
    """A collective, as equinox's batch normalisation has it."""
    return jax.vmap(lambda row: jax.lax.pmean(row, "rows"), axis, None, axis_name="rows")(h)


@operation(2)
def with_constant(b: Builder) -> None:
    """A known array that differs along units, in blocks, or in the sign of zero."""
    i = b.pick()
    s = b.shape(i)
    c = b.constant(s[-1]) if b.chance(0.6) else b.constant(*s[1:])
    f = b.choose([
        jnp.add, jnp.multiply, jnp.copysign, jnp.arctan2, jnp.maximum,
        lambda a, c: jnp.where(c > 0.1, a, 0.2), lambda a, c: jnp.where(jnp.signbit(c), a, 0.5 * a),
        lambda a, c: jnp.tanh(a / c),
    ])  # fmt: skip
    b.add(lambda p, v: f(v[i], c))


@operation(1)
def constant_twice(b: Builder) -> None:
    """One known array meets two arrays."""
    i, j = b.pick(), b.pick()
    n = b.shape(i)[-1]
    c = jnp.asarray(b.constant(n))
    b.add(lambda p, v: (v[i] * c)[..., None] + (v[j] + c)[..., None, :])


@operation(1)
def where_iota(b: Builder) -> None:
    i = b.pick()
    s = b.shape(i)
    d = b.axis(i)
    k, kind = b.below(s[d]), b.below(5)

    def masked(p, v):
        positions = jax.lax.broadcasted_iota(int, s, d)
        if kind == 0:
            mask = positions <= k
        elif kind == 1:
            mask = positions == k
        elif kind == 2:
            mask = positions % 2 == 0
        elif kind == 3:
            mask = positions == jax.lax.broadcasted_iota(int, s, (d + 1) % len(s))
        else:
            return v[i] + positions
        return jnp.where(mask, v[i], 0.2)

    b.add(masked)


@operation(2)
def quantise(b: Builder) -> None:
    i = b.pick()
    n, m, kind = b.shape(i)[-1], b.size(), b.below(7)
    w = b.weight(n, m)

    def integer(p, v):
        q = jnp.round(jnp.clip(jnp.real(v[i]) * 7.3 + 0.11, -100, 100)).astype(jnp.int8)
        if kind == 0:
            return q.astype(v[i].dtype) / 7.3
        if kind == 1:
            k = jnp.round(jnp.clip(jnp.real(w(p)) * 5.1 + 0.11, -100, 100)).astype(jnp.int8)
            return jax.lax.dot_general(
                q, k, (((q.ndim - 1,), (0,)), ((), ())), preferred_element_type=jnp.int32
            )
        if kind == 2:
            return (q & 3) ^ (q >> 2)
        if kind == 3:
            return jax.lax.population_count(q.astype(jnp.uint8)) + jnp.bitwise_count(q)
        if kind == 4:
            return q
        if kind == 5:
            return jnp.bitwise_xor.reduce(q, axis=-1, keepdims=True) + q
        return (q > 3) | (q < -2)

    b.add(integer)


@operation(1)
def bitcast(b: Builder) -> None:
    i = b.pick(2, 4)
    kind = b.below(3)

    def cast(p, v):
        h = jnp.round(jnp.real(v[i]) * 5.3 + 0.11).astype(jnp.float32)
        if kind == 0:  # the same shape
            bits = jax.lax.bitcast_convert_type(h, jnp.int32)
            return jax.lax.bitcast_convert_type(bits ^ 5, jnp.float32)
        if kind == 1:  # one axis more
            return jax.lax.bitcast_convert_type(h, jnp.uint8)
        return jax.lax.bitcast_convert_type(h.astype(jnp.int8), jnp.uint8)

    b.add(cast)


@operation(2)
def complex_numbers(b: Builder) -> None:
    i = b.pick()
    kind = b.below(6)
    w = b.weight(b.shape(i)[-1])

    def turned(p, v):
        h = v[i]
        z = h + 1j * jnp.cos(h)
        if kind == 0:
            return z
        if kind == 1:
            return jnp.real(z * jnp.exp(1j * w(p)))
        if kind == 2:
            return jnp.abs(z) + jnp.angle(z)
        if kind == 3:
            return jnp.conj(h)
        if kind == 4:
            return jnp.imag(jax.lax.complex(jnp.real(h) * 1.0, jnp.tanh(jnp.real(h))) ** 2)
        return jnp.real(jnp.einsum("...u,...w->...uw", jnp.conj(z), z)) if h.ndim < 4 else z

    b.add(turned)


@operation(1)
def fourier(b: Builder) -> None:
    i = b.pick()
    d, kind = b.axis(i), b.below(6)
    n = b.shape(i)[d]
    f = [
        lambda a: jnp.fft.fft(a, axis=d),
        lambda a: jnp.abs(jnp.fft.rfft(jnp.real(a), axis=d)),
        lambda a: jnp.fft.irfft(a, n=n, axis=d),
        lambda a: jnp.real(jnp.fft.fft2(a)),
        lambda a: jnp.fft.irfft(jnp.fft.rfft(jnp.real(a), axis=d) * 0.5, n=n, axis=d),
        lambda a: jnp.real(jnp.fft.ifft(jnp.fft.fft(a, axis=d), axis=d)),
    ][kind]
    b.add(lambda p, v: f(v[i]))


@operation(1)
def masked_by_data(b: Builder) -> None:
    i, j = b.pick(), b.pick(1)
    b.add(lambda p, v: jnp.where(jnp.sum(jnp.real(v[j]), -1, keepdims=True) > 0.0123, v[i], 0.1))


@operation(1)
def polynomial(b: Builder) -> None:
    i = b.pick()
    c = np.array([0.3, -0.2, 0.1])
    b.add(lambda p, v: jnp.polyval(c, jnp.tanh(jnp.real(v[i]))))
