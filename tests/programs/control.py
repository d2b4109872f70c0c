"""Scans, loops, branches and functions with gradients of their own."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .builder import Builder, operation


@operation(2)
def scan(b: Builder) -> None:
    """Layers stacked in one parameter."""
    i = b.pick()
    d, n = b.shape(i)[-1], b.size()
    w, u = b.weight(3, d, n), b.weight(3, n, d)
    kind, reverse = b.below(3), b.chance(0.3)

    def layers(p, v):
        def step(h, ws):
            return h + jnp.tanh(h @ ws[0]) @ ws[1], h.sum(-1)

        h, ys = jax.lax.scan(step, v[i], (w(p), u(p)), reverse=reverse)
        return h if kind < 2 else jnp.moveaxis(ys, 0, -1)

    b.add(layers)


@operation(2)
def time_scan(b: Builder) -> None:
    i = b.pick(3)
    axis = b.below(len(b.shape(i)) - 1, 1)
    d, n = b.shape(i)[-1], b.size()
    w, u = b.weight(d, n), b.weight(n, n)
    reverse, last = b.chance(0.3), b.chance(0.2)

    def recurrent(p, v):
        def step(h, x):
            h = jnp.tanh(h @ u(p) + x @ w(p))
            return h, h

        x = jnp.moveaxis(v[i], axis, 0)
        start = jnp.zeros((*x.shape[1:-1], n), (x[0] @ w(p)).dtype)
        h, ys = jax.lax.scan(step, start, x, reverse=reverse)
        return h if last else jnp.moveaxis(ys, 0, axis)

    b.add(recurrent)


@operation(1)
def unit_scan(b: Builder) -> None:
    """A loop over units: a sum that does not care, or a recurrence that does."""
    i = b.pick()
    d = b.axis(i)
    decay, kind = b.choose((1.0, 0.5)), b.below(3)

    def looped(p, v):
        x = jnp.moveaxis(v[i] * 1.0, d, 0)
        total, ys = jax.lax.scan(lambda s, row: (decay * s + row, jnp.sin(row)), x[0] * 0, x)
        return [total, jnp.moveaxis(ys, 0, d), ys[0] + total][kind]

    b.add(looped)


@operation(1)
def nested_scan(b: Builder) -> None:
    i = b.pick()
    d = b.shape(i)[-1]
    w = b.weight(2, 3, d, d)
    shared = b.chance(0.5)

    def looped(p, v):
        def outer(h, ws):
            def inner(g, m):
                g = jnp.tanh(g @ m)
                return g, g.sum(0)

            h, ys = jax.lax.scan(inner, h, ws)
            return (h if shared else h * ys.sum()), ys.mean()

        h, ys = jax.lax.scan(outer, v[i] * (1 + 0j) if jnp.iscomplexobj(w(p)) else v[i] * 1.0, w(p))
        return h + ys.sum()

    b.add(looped)


@operation(2)
def swapping_scan(b: Builder) -> None:
    """Two carries that change places."""
    i = b.pick()
    same = [k for k, v in enumerate(b.pool) if v.shape == b.pool[i].shape]
    j, n = b.choose(same), b.shape(i)[-1]
    w = b.weight(n, n)
    length, use = b.choose((2, 3)), b.chance(0.6)

    def looped(p, v):
        def step(carry, _):
            first, second = carry
            return (second, jnp.tanh(jnp.real(first @ w(p) if use else first))), first.sum(-1)

        start = (jnp.real(v[i]) * 1.0, jnp.real(v[j]) * 1.0)
        (first, second), ys = jax.lax.scan(step, start, None, length=length)
        return first - 2 * second + ys.sum()

    b.add(looped)


@operation(1)
def loop(b: Builder) -> None:
    i = b.pick()
    d = b.shape(i)[-1]
    w = b.weight(d, d)
    b.add(lambda p, v: jax.lax.fori_loop(0, 3, lambda k, h: jnp.sin(h @ w(p)) + h, v[i]))


@operation(2)
def while_loop(b: Builder) -> None:
    """Several carries, a condition on data; the state may turn, flip or swap."""
    i = b.pick()
    same = [k for k, v in enumerate(b.pool) if v.shape == b.pool[i].shape]
    j, n, kind = b.choose(same), b.shape(i)[-1], b.below(5)
    w = b.weight(n, n)

    def looped(p, v):
        def condition(c):
            return (c[0] < 4) & (jnp.sum(jnp.abs(c[1])) < 17.3)

        def body(c):
            k, first, second = c
            if kind == 0:
                return k + 1, second, first * 1.1
            if kind == 1:
                return k + 1, first + 0.3 * jnp.real(jnp.tanh(second) @ w(p)), second
            if kind == 2:
                return k + 1, jnp.flip(first, -1) + 0.1, second
            if kind == 3:
                return k + 1, first * 1.2, second + jnp.where(k == 1, first, 0)
            return k + 1, first + k * second, jnp.roll(second, 1, 1)

        start = (0, jnp.real(v[i]) * 1.0, jnp.real(v[j]) * 1.0)
        k, first, second = jax.lax.while_loop(condition, body, start)
        return first + second + 0.1 * k

    b.add(looped)


@operation(2)
def branch(b: Builder) -> None:
    i = b.pick()
    n = b.shape(i)[-1]
    w, kind = b.weight(n, n), b.below(4)

    def either(p, v):
        h = jnp.real(v[i]) * 1.0
        others = [
            lambda h: (h * 2.0, h),
            lambda h: (jnp.flip(h, -1), h),
            lambda h: (h, jnp.tanh(h)),
            lambda h: (h.sum(-1, keepdims=True) + 0 * h, h.mean(1, keepdims=True) + 0 * h),
        ]
        a, c = jax.lax.cond(h.sum() > 0.0123, lambda h: (jnp.real(h @ w(p)), h), others[kind], h)
        return a + jnp.cos(c)

    b.add(either)


@operation(1)
def branch_of_many(b: Builder) -> None:
    i = b.pick()
    n = b.shape(i)[-1]
    w = b.weight(3, n, n)
    vmapped = b.chance(0.3)

    def chosen(p, v):
        h = jnp.real(v[i]) * 1.0

        def one(h):
            index = (h.sum() > 0.0123).astype(int) + (h.sum() > 1.234)
            return jax.lax.switch(
                index, [lambda h, k=k: jnp.real(h @ w(p)[k]) for k in range(3)], h
            )

        return jax.vmap(one)(h) if vmapped else one(h)

    b.add(chosen)


@operation(1)
def branch_by_name(b: Builder) -> None:
    """The branch is the index of a unit."""
    i = b.pick()

    def chosen(p, v):
        h = jnp.real(v[i]) * 1.0
        index = jnp.argmax(h.sum(range(h.ndim - 1)))
        return jax.lax.switch(index, [lambda h: h, jnp.tanh, jnp.sin], h)

    b.add(chosen)


@operation(1)
def associative(b: Builder) -> None:
    i = b.pick()
    d = b.axis(i)
    f = b.choose([jnp.add, jnp.multiply, jnp.maximum, jnp.minimum])
    reverse = b.chance(0.3)
    b.add(lambda p, v: jax.lax.associative_scan(f, v[i], axis=d, reverse=reverse))


@operation(1)
def linear_recurrence(b: Builder) -> None:
    i = b.pick(3)
    w = b.weight(b.shape(i)[-1])

    def state_space(p, v):
        decay = jnp.broadcast_to(jax.nn.sigmoid(jnp.real(w(p))), v[i].shape)

        def combine(left, right):
            return left[0] * right[0], left[1] * right[0] + right[1]

        return jax.lax.associative_scan(combine, (decay, jnp.real(v[i])), axis=1)[1]

    b.add(state_space)


@operation(1)
def mapped(b: Builder) -> None:
    """`lax.map` over an axis, with a weight for each index or one for all."""
    i = b.pick(3)
    s = b.shape(i)
    d = b.below(len(s) - 1)
    own = b.chance(0.5)
    w = b.weight(s[d], s[-1], 3) if own else b.weight(s[-1], 3)

    def loop(p, v):
        x = jnp.moveaxis(v[i], d, 0)
        if own:
            return jnp.moveaxis(jax.lax.map(lambda a: jnp.tanh(a[0] @ a[1]), (x, w(p))), 0, d)
        return jnp.moveaxis(jax.lax.map(lambda a: jnp.tanh(a @ w(p)), x), 0, d)

    b.add(loop)


# -- gradients -----------------------------------------------------------------------------


@jax.custom_jvp
def _straight_through(x):
    return jnp.round(x * 1.7 + 0.11)


@_straight_through.defjvp
def _(primals, tangents):
    return _straight_through(*primals), tangents[0]


@jax.custom_vjp
def _scaled_product(x, w):
    return x @ w * 0.5


_scaled_product.defvjp(
    lambda x, w: (_scaled_product(x, w), (x, w)), lambda r, g: (g @ r[1].T, r[0].T @ g)
)


@operation(1)
def own_gradient(b: Builder) -> None:
    i = b.pick()
    w = b.weight(b.shape(i)[-1], b.size())
    rounds = b.chance(0.4)
    b.add(lambda p, v: _straight_through(jnp.real(v[i])) if rounds else _scaled_product(v[i], w(p)))


@operation(2)
def gradient(b: Builder) -> None:
    """A gradient inside the function, by the values or by the weight."""
    i = b.pick()
    n = b.shape(i)[-1]
    w, kind = b.weight(n, b.size()), b.below(4)

    def moved(p, v):
        h, m = jnp.real(v[i]) * 1.0, jnp.real(w(p))

        def energy(h, m):
            if kind == 2:
                return jnp.max(h @ m) + jnp.sum(jax.lax.cummax(h, 1))
            return jnp.sum(jnp.tanh(h @ m) ** 2) + jnp.sum(jax.nn.relu(h))

        if kind == 1:
            return h @ (m - 0.1 * jax.grad(energy, 1)(h, m))
        return h - 0.1 * jax.grad(energy)(h, m)

    b.add(moved)


@operation(1)
def jitted(b: Builder) -> None:
    i, j = b.pick(), b.pick()
    f = jax.jit(lambda a, c: jnp.tanh(a) * c.sum() + jax.checkpoint(jnp.cos)(a))
    b.add(lambda p, v: f(v[i], v[j]))
