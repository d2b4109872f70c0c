"""Moments of the units of two networks, accumulated chunk by chunk on the device.

Positions are samples: all blocks of a value that hold the same units are pooled in one moment,
with one mean and one variance for each unit. Memory grows with units, never with examples,
positions or blocks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compiled import compiled, compiled_for
from .._inputs import length, type_of
from .._stream import Inputs
from .._tree import at_least_single
from .._types import Params
from . import chunks
from .activations import analysis_for, axes_of
from .axes import Atom
from .blocks import blocks
from .coarse import coarse
from .network import Network
from .pools import Piece, Pool, described, kept, pools, pools_of
from .program import run

# Deviations outside 2^±_PLAIN are held in units of their own, down to 2^-_SMALLEST.
_PLAIN = 30
_SMALLEST = 100
# Of moments in one pass over the data.
_PASS_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Moments of the units of one activation in two networks, `a` and `b`.

    - `units`: the free atoms of the unit axes, in order; `fixed`: outer fixed axes they follow
    - `mean_a`, `mean_b`: (fixed…, units…); `var_a`, `var_b` alike, ⟨|z − µ|²⟩
    - `cross`: covariance Re ⟨(z_a − µ_a) (z_b − µ_b)*⟩, (fixed…, units of a…, units of b…)
    """

    fixed: tuple[Atom, ...]
    units: tuple[Atom, ...]
    mean_a: np.ndarray
    mean_b: np.ndarray
    var_a: np.ndarray
    var_b: np.ndarray
    cross: np.ndarray


def moments(
    network: Network,
    a: Params,
    b: Params,
    x: Inputs,
    tap: str,
    settled: tuple[str, ...],
    which: Sequence[int],
) -> Iterator[Moments]:
    """Moments over all of x, each example once, in as few passes as memory allows.

    **Arguments:**
    - `x`: inputs, at most `x.chunk` of them at a time
    - `which`: numbers of the pools to use, in the order wanted

    **Raises:** `ValueError` where activations are NaN or infinite.
    """
    first, _ = pools_of(network, x, tap, settled)
    for some in _passes([first[i].bytes for i in which]):
        mine = [which[k] for k in some]
        total: Any = None
        for block in x.blocks():
            plan = tuple(chunks.sizes(length(block), x.chunk))
            found = [pools(network, block, size, tap, settled)[0] for size, _ in plan]
            if any(described(f) != described(first) for f in found):
                raise RuntimeError(
                    "the model's activations hold other units for another batch length"
                )
            chosen = tuple(tuple(of_size[i] for i in mine) for of_size in found)
            given = jax.tree.map(jnp.asarray, block)
            new = _sums(network, plan, chosen, _keep_tuple(network, settled), a, b, given)
            total = new if total is None else compiled(_merge_all)(total, new)
        for i in mine:
            yield _assemble(network, first[i], total.pop(0))


def _keep_tuple(network: Network, settled: Collection[str]) -> tuple[Atom, ...]:
    return tuple(sorted(kept(network, settled), key=lambda atom: atom.index))


def _passes(needed: Sequence[int]) -> Iterator[list[int]]:
    """Successive items whose bytes fit together (a larger item alone)."""
    some: list[int] = []
    total = 0
    for i, n in enumerate(needed):
        if some and total + n > _PASS_BYTES:
            yield some
            some, total = [], 0
        some.append(i)
        total += n
    if some:
        yield some


def _assemble(network: Network, pool: Pool, sums: list[tuple]) -> Moments:
    """A pool's sums as float64 moments; indices that no block holds have none (zeros). The list is
    emptied: what has been widened is let go."""
    shape_o, shape_f, shape_u = (
        tuple(a.size for a in some) for some in (pool.only, pool.fixed, pool.units)
    )
    tails = [shape_f + shape_u] * 4 + [shape_f + shape_u + shape_u]
    parts: list[Any] = []
    for index, _ in pool.pieces:
        for k, (value, tail) in enumerate(zip(_in_float64(sums.pop(0)), tails, strict=True)):
            wide = value.reshape(tail)
            if not np.isfinite(wide).all():
                names = " and ".join(network.by_atom[u].name for u in pool.units)
                raise ValueError(f"x: activations of {names} are NaN or infinite")
            if not shape_o:
                parts.append(wide)
                continue
            if len(parts) <= k:
                parts.append(np.zeros(shape_o + tail, wide.dtype))
            parts[k][index] = wide
    mean_a, mean_b, var_a, var_b, cross = parts
    return Moments(pool.only + pool.fixed, pool.units, mean_a, mean_b, var_a, var_b, cross)


def _in_float64(held: tuple) -> tuple[np.ndarray, ...]:
    """Means, variances and covariance in true units, of sums in those of each unit."""
    *small, cross = held
    del held
    count, mean_a, mean_b, unit_a, unit_b, squares_a, squares_b = (
        np.asarray(v).astype(np.promote_types(v.dtype, np.float64)) for v in small
    )
    wide = np.asarray(cross).astype(np.float64)
    del cross
    for unit in (unit_a[:, :, None], unit_b[:, None, :]):
        if (unit != 1).any():  # in place: it is the one large array
            wide *= unit
    wide /= count
    return (
        mean_a, mean_b, squares_a * unit_a**2 / count, squares_b * unit_b**2 / count, wide
    )  # fmt: skip


@compiled_for("network", "plan", "chosen", "keep")
def _sums(
    network: Network,
    plan: tuple[tuple[int, int], ...],
    chosen: tuple[tuple[Pool, ...], ...],
    keep: tuple[Atom, ...],
    a: Params,
    b: Params,
    x: Any,
) -> list[list[tuple]]:
    """For each pool and each of its indices what `_piece_sums` gives, of all examples."""
    total: Any = None
    first = 0
    for (size, number), some in zip(plan, chosen, strict=True):

        def of_chunk(start, size=size, some=some):
            return _chunk_sums(network, some, keep, a, b, chunks.take(x, start, size))

        if number == 1:
            new = of_chunk(first)
            total = new if total is None else _merge_all(total, new)
        else:
            if total is None:
                total = jax.tree.map(
                    lambda v: jnp.zeros(v.shape, v.dtype), jax.eval_shape(of_chunk, 0)
                )

            def step(total, i, first=first, size=size, of_chunk=of_chunk):
                return _merge_all(total, of_chunk(first + i * size)), None

            total = jax.lax.scan(step, total, jnp.arange(number))[0]
        first += size * number
    return total


def _chunk_sums(
    network: Network, some: Sequence[Pool], keep: tuple[Atom, ...], a: Params, b: Params, x: Any
) -> list[list[tuple]]:
    analysis, _ = analysis_for(network, jax.tree.map(type_of, x))
    observe = {pool.value: (lambda array: array) for pool in some}

    def found(params: Params) -> dict[int, list[Any]]:
        leaves = [*jax.tree.leaves(params), *jax.tree.leaves(x)]
        seen = run(analysis.program, leaves, observe=observe)[1]
        axes = {v: coarse(axes_of(analysis, v), keep) for v in observe}
        return {v: [block for block, _ in blocks(seen[v], axes[v])] for v in observe}

    of_a, of_b = found(a), found(b)
    return [
        [
            _piece_sums(_matrix(of_a[pool.value], pieces), _matrix(of_b[pool.value], pieces))
            for _, pieces in pool.pieces
        ]
        for pool in some
    ]


def _matrix(found: Sequence[Any], pieces: Sequence[Piece]) -> jax.Array:
    """Blocks that hold the same units as one array (fixed, samples, units)."""
    out = []
    for piece in pieces:
        array = found[piece.block]
        samples = [i for i in range(array.ndim) if i not in (*piece.fixed, *piece.units)]
        n_fixed, n_units = (math.prod(array.shape[i] for i in some)
                            for some in (piece.fixed, piece.units))  # fmt: skip
        moved = jnp.transpose(array, [*piece.fixed, *samples, *piece.units])
        out.append(moved.reshape(n_fixed, -1, n_units))
    joined = jnp.concatenate(out, 1) if len(out) > 1 else out[0]
    return joined.astype(at_least_single(joined.dtype))


def _piece_sums(m_a: jax.Array, m_b: jax.Array) -> tuple:
    """(count, means, scales, centred squares, centred products) of units over samples.

    Squares and products are in units of the scales, powers of two near each unit's own deviations
    where these are extraordinary, so that they neither overflow float32 nor vanish.
    """
    mean_a, mean_b = m_a.mean(1), m_b.mean(1)
    c_a, c_b = m_a - mean_a[:, None], m_b - mean_b[:, None]
    unit_a, unit_b = (_scale(jnp.abs(c).max(1)) for c in (c_a, c_b))
    c_a, c_b = c_a / unit_a[:, None], c_b / unit_b[:, None]
    cross = jnp.einsum("fsu,fsv->fuv", c_a, c_b.conj()).real
    count = jnp.float32(m_a.shape[1])
    squares = jnp.sum(_square(c_a), 1), jnp.sum(_square(c_b), 1)
    return count, mean_a, mean_b, unit_a, unit_b, *squares, cross


def _scale(largest: jax.Array) -> jax.Array:
    """1 for deviations of ordinary size, else a power of two about as large (0 is very small)."""
    exponent = jnp.clip(jnp.frexp(largest)[1], -_SMALLEST, 120)
    plain = (jnp.abs(exponent) <= _PLAIN) & (largest > 0)
    return jnp.where(plain, 1, jnp.ldexp(jnp.ones_like(largest), jnp.where(
        largest > 0, exponent, -_SMALLEST)))  # fmt: skip


def _square(v: jax.Array) -> jax.Array:
    return v.real**2 + v.imag**2 if jnp.iscomplexobj(v) else v**2


def _merge_all(total: Any, new: Any) -> Any:
    return [
        [_merge(s, t) for s, t in zip(x, y, strict=True)] for x, y in zip(total, new, strict=True)
    ]


def _merge(s: tuple, t: tuple) -> tuple:
    """Moments of two sets of samples together (Chan, Golub & LeVeque 1983)."""
    n, m = s[0], t[0]
    d_a, d_b, w = t[1] - s[1], t[2] - s[2], n * m / (n + m)
    unit_a, unit_b = (
        jnp.maximum(jnp.maximum(s[k], t[k]), _scale(jnp.abs(d))) for k, d in ((3, d_a), (4, d_b))
    )
    of_s, of_t = ((v[3] / unit_a, v[4] / unit_b) for v in (s, t))
    e_a, e_b = d_a / unit_a, d_b / unit_b
    products = (e_a[:, :, None] * e_b.conj()[:, None, :]).real
    return (
        n + m,
        s[1] + d_a * (m / (n + m)),
        s[2] + d_b * (m / (n + m)),
        unit_a,
        unit_b,
        s[5] * of_s[0] ** 2 + t[5] * of_t[0] ** 2 + _square(e_a) * w,
        s[6] * of_s[1] ** 2 + t[6] * of_t[1] ** 2 + _square(e_b) * w,
        _rescaled(s[7], *of_s) + _rescaled(t[7], *of_t) + w * products,
    )


def _rescaled(cross: jax.Array, of_a: jax.Array, of_b: jax.Array) -> jax.Array:
    return cross * of_a[:, :, None] * of_b[:, None, :]
