"""Products: dense layers, einsums of several operands, attention, convolutions."""

from __future__ import annotations

import string

import jax
import jax.numpy as jnp

from .builder import Builder, UnfitError, operation


@operation(9)
def dense(b: Builder) -> None:
    i = b.pick(1)
    w = b.weight(b.shape(i)[-1], b.size())
    b.add(lambda p, v: v[i] @ w(p))


@operation(2)
def contract_middle(b: Builder) -> None:
    i = b.pick(3)
    d = b.below(len(b.shape(i)), 1)
    w = b.weight(b.shape(i)[d], b.size())
    b.add(lambda p, v: jnp.moveaxis(jnp.tensordot(v[i], w(p), (d, 0)), -1, d))


@operation(4)
def dense_general(b: Builder) -> None:
    i = b.pick()
    w = b.weight(b.shape(i)[-1], b.size(), b.size())
    b.add(lambda p, v: jnp.tensordot(v[i], w(p), 1))


@operation(4)
def batched_dense(b: Builder) -> None:
    """A weight for each index of another axis: experts, heads, positions."""
    i = b.pick(3)
    s = b.shape(i)
    w = b.weight(s[1], s[-1], b.size())
    b.add(lambda p, v: jnp.einsum("be...d,edh->be...h", v[i], w(p)))


@operation(6)
def einsum(b: Builder) -> None:
    """Two or three operands; letters repeated across batch, contraction, free, or one operand."""
    sizes: dict[str, int] = {}
    new = iter(string.ascii_letters)

    def letter(n: int, share: float) -> str:
        old = [c for c, m in sizes.items() if m == n]
        if old and b.chance(share):
            return b.choose(old)
        c = next(new)
        sizes[c] = n
        return c

    subscripts, operands = [], []
    for k in range(b.choose([2, 2, 3])):
        if k == 0 or b.chance(0.5):
            i = b.pick(1, 4)
            subscripts.append("".join(letter(n, 0.6) for n in b.shape(i)))
            operands.append(lambda p, v, i=i: v[i])
        else:
            inside = [b.choose(list(sizes)) for _ in range(b.below(3, 1))]
            outside = [letter(b.size(), 0.1) for _ in range(b.below(2))]
            letters = list(dict.fromkeys([*inside, *outside]))
            b.rng.shuffle(letters)
            w = b.weight(*(sizes[c] for c in letters))
            subscripts.append("".join(letters))
            operands.append(lambda p, v, w=w: w(p))
    kept = [c for c in sizes if b.chance(0.5)]
    b.rng.shuffle(kept)
    first = subscripts[0][0]
    kept = [first, *(c for c in kept if c != first)][:4]
    formula = ",".join(subscripts) + "->" + "".join(kept)
    b.add(lambda p, v: jnp.einsum(formula, *(f(p, v) for f in operands)) / 2)


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
def pair_map(b: Builder) -> None:
    """The same units on two axes."""
    i = b.pick()
    j = i if b.chance(0.6) else b.pick()
    b.add(lambda p, v: jnp.einsum("...tu,...tv->...uv", v[i], v[j]))


@operation(2)
def attend(b: Builder) -> None:
    i, j = b.pick(), b.pick()
    b.add(lambda p, v: jnp.einsum("...ts,...sd->...td", v[i], v[j]))


@operation(1)
def masked_attention(b: Builder) -> None:
    i = b.pick(3)
    n = b.shape(i)[-2]
    mask = b.choose([
        lambda: jnp.tril(jnp.ones((n, n), bool)),
        lambda: jnp.arange(n)[:, None] >= jnp.arange(n),
        lambda: jnp.arange(n) < n - 1,
        lambda: jnp.eye(n, dtype=bool),
    ])  # fmt: skip

    def attention(p, v):
        h = jnp.real(v[i])
        s = jnp.where(mask(), jnp.einsum("...td,...sd->...ts", h, h), -30.0)
        return jnp.einsum("...ts,...sd->...td", jax.nn.softmax(s), h)

    b.add(attention)


# -- convolutions --------------------------------------------------------------------------


def _convolution(b: Builder, shape: tuple[int, ...]):
    """(kernel's shape, function of (array, kernel)) for an array of that shape."""
    rank = len(shape) - 2
    if rank < 1 or rank > 2:
        raise UnfitError
    space = "HW"[:rank]
    lhs, rhs, out = list("NC" + space), list("OI" + space), list("NC" + space)
    if b.chance(0.7):
        lhs, rhs, out = list("N" + space + "C"), list(space + "IO"), list("N" + space + "C")
    else:
        for spec in (lhs, rhs, out):
            b.rng.shuffle(spec)
    n = dict(zip(lhs, shape, strict=True))
    groups = b.choose([g for g in (1, 1, 1, 2, 3, n["C"]) if n["C"] % g == 0])
    batches = b.choose([g for g in (1, 1, 1, 2, n["N"]) if n["N"] % g == 0]) if groups == 1 else 1
    if not b.chance(0.3):
        batches = 1
    outs = b.size() if groups == batches == 1 else groups * batches * b.choose((1, 2))
    kernel = {"I": n["C"] // groups, "O": outs} | {c: b.choose((1, 2, 2, 3)) for c in space}
    strides = [b.choose((1, 1, 2)) for _ in space]
    padding = b.choose(["SAME", "VALID", [(1, 1)] * rank, [(0, 2)] * rank])
    dilation = [b.choose((1, 1, 2)) for _ in space]
    base = [1] * rank if isinstance(padding, str) else [b.choose((1, 1, 2)) for _ in space]
    numbers = ("".join(lhs), "".join(rhs), "".join(out))

    def convolve(x, w):
        return jax.lax.conv_general_dilated(
            x, w.astype(x.dtype), strides, padding, lhs_dilation=base, rhs_dilation=dilation,
            dimension_numbers=numbers, feature_group_count=groups, batch_group_count=batches,
        )  # fmt: skip

    return tuple(kernel[c] for c in rhs), convolve


@operation(3)
def convolve(b: Builder) -> None:
    i = b.pick(3, 4)
    shape, f = _convolution(b, b.shape(i))
    w = b.weight(*shape)
    b.add(lambda p, v: f(v[i], w(p)))


@operation(1)
def convolve_transposed(b: Builder) -> None:
    i = b.pick(3, 3)
    c, n = b.shape(i)[-1], b.size()
    flipped = b.chance(0.5)
    w = b.weight(*((3, n, c) if flipped else (3, c, n)))
    b.add(lambda p, v: jax.lax.conv_transpose(
        v[i], w(p).astype(v[i].dtype), (2,), "SAME", dimension_numbers=("NHC", "HIO", "NHC"),
        transpose_kernel=flipped))  # fmt: skip


@operation(4)
def convolve_vmapped(b: Builder) -> None:
    """Over an axis of the array, of the kernel, or of both."""
    i = b.pick(3, 5)
    s = b.shape(i)
    kind = b.below(3)
    axis = b.below(len(s))
    inner = s if kind == 0 else (*s[:axis], *s[axis + 1 :])
    shape, f = _convolution(b, inner)
    n = b.size()
    if kind == 0:
        w, axes = b.weight(n, *shape), (None, 0)
    elif kind == 1:
        w, axes = b.weight(*shape), (axis, None)
    else:
        w, axes = b.weight(s[axis], *shape), (axis, 0)
    place = b.below(len(inner) + 1)
    b.add(lambda p, v: jax.vmap(f, axes, place)(v[i], w(p)))


@operation(2)
def convolve_by_data(b: Builder) -> None:
    """The kernel is computed, too."""
    i = b.pick(3, 3)
    shape, f = _convolution(b, b.shape(i))
    fit = [j for j, v in enumerate(b.pool) if v.shape == shape]
    if not fit:
        raise UnfitError
    j = b.choose(fit)
    b.add(lambda p, v: f(v[i], v[j]))
