"""Windows and cumulative operations: what mixes neighbouring positions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from .builder import Builder, operation


@operation(1)
def pool(b: Builder) -> None:
    """Sums, maxima or products over windows of one or two axes."""
    i = b.pick()
    s = b.shape(i)
    dims = {b.axis(i), b.axis(i)}
    window = [b.choose((1, 2, 3)) if d in dims else 1 for d in range(len(s))]
    strides = [b.choose((1, 2)) if d in dims else 1 for d in range(len(s))]
    padding = b.choose(["SAME", "VALID"])
    kind = b.below(3)
    start, f = [(0.0, jax.lax.add), (-np.inf, jax.lax.max), (1.0, jax.lax.mul)][kind]
    b.add(lambda p, v: jax.lax.reduce_window(
        jnp.real(v[i]) * 1.0, start, f, window, strides, padding))  # fmt: skip


@operation(1)
def window_whole(b: Builder) -> None:
    """A window over a whole axis: a sum in disguise."""
    i = b.pick(3)
    d = b.below(len(b.shape(i)), 1)
    window = [n if a == d else 1 for a, n in enumerate(b.shape(i))]
    b.add(lambda p, v: jax.lax.reduce_window(
        jnp.real(v[i]) * 1.0, 0.0, jax.lax.add, window, (1,) * v[i].ndim, "VALID"))  # fmt: skip


@operation(2)
def cumulative(b: Builder) -> None:
    i = b.pick()
    d = b.axis(i)
    f = b.choose([
        jax.lax.cumsum, jax.lax.cumprod, jax.lax.cummax, jax.lax.cummin, jax.lax.cumlogsumexp
    ])  # fmt: skip
    reverse = b.chance(0.3)
    b.add(lambda p, v: f(jnp.real(v[i]) * 1.0, d, reverse=reverse))


@operation(1)
def patches(b: Builder) -> None:
    i = b.pick(3, 3)
    k = b.choose((2, 3))
    b.add(lambda p, v: jax.lax.conv_general_dilated_patches(
        jnp.real(v[i]) * 1.0, (k,), (1,), "SAME",
        dimension_numbers=("NWC", "WIO", "NWC")))  # fmt: skip


@operation(1)
def neighbours(b: Builder) -> None:
    i = b.pick()
    d = b.axis(i)
    b.add(lambda p, v: v[i] + 0.5 * jnp.roll(v[i], 1, d) * jax.lax.slice_in_dim(v[i], 0, 1, axis=d))


@operation(1)
def resize(b: Builder) -> None:
    i = b.pick(3)
    s = list(b.shape(i))
    d = b.below(len(s), 1)
    s[d] = 2 * s[d]
    method = b.choose(["nearest", "linear"])
    b.add(lambda p, v: jax.image.resize(jnp.real(v[i]) * 1.0, s, method))
