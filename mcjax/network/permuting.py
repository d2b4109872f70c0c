"""Units of one leaf permuted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from .axes import Atom, Axes, Concat, Expr, Family, atoms
from .groups import Group
from .layout import Layout, act

# Bytes that are moved along several axes at once: they stay in the processor's cache meanwhile.
_CACHED = 1 << 17
# XLA on a CPU takes arrays of this alignment as they are, and copies others.
_ALIGNMENT = 64

_Outer = Mapping[Atom, tuple[Atom, ...]]  # atom → those that its permutation depends on


def touches(axes: Axes, given: Mapping[Atom, Any]) -> bool:
    """Whether one of the atoms given stands on these axes."""
    return any(a in given for e in axes for a in atoms(e))


def permute_leaf(groups: Mapping[Atom, Group], given: Mapping[Atom, Any], leaf: Any, axes: Axes):
    """One leaf with its units permuted, on the host if it is a NumPy array.

    **Arguments:**
    - `groups`: atom → group, for all of a network
    - `given`: atom → index array of the group's shape, for those that are permuted
    """
    if not touches(axes, given):
        return leaf
    here = {t: given[t] for t in dict.fromkeys(a for e in axes for a in atoms(e)) if t in given}
    outer = {t: groups[t].outer for t in here}
    xp: Any = np if isinstance(leaf, np.ndarray) else jnp
    if xp is np:
        here = {t: np.asarray(p) for t, p in here.items()}
        out = _empty(leaf.shape, leaf.dtype)
        bits = f"u{leaf.itemsize}" if leaf.itemsize in (1, 2, 4, 8) else leaf.dtype
        if _move(outer, here, leaf.view(bits), axes, out.view(bits)):
            return out
    else:
        vectors = [_sources(outer, here, e, jnp) for e in axes]
        if all(v is not None for v in vectors):
            for axis, vector in enumerate(vectors):
                leaf = jnp.take(leaf, vector, axis=axis) if vector.size else leaf
            return leaf

    def take(indices, block, layout: Layout):
        if not layout.fixed:
            return xp.take(block, indices, axis=layout.units[0])
        rows = layout.matrix(block)
        indices = indices.reshape(len(rows), -1)
        return layout.back(rows[xp.arange(len(rows))[:, None], indices])

    return act(take, groups, given, leaf, axes)


def _empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.empty(size + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)


def _move(
    outer: _Outer, given: Mapping[Atom, Any], leaf: np.ndarray, axes: Axes, out: np.ndarray
) -> bool:
    """Write the permuted leaf to `out`; False (and anything in `out`) if it cannot be told axis by
    axis, once some that stand alone on an axis are gone through one by one."""
    vectors = [_sources(outer, given, e, np) for e in axes]
    if all(v is not None for v in vectors):
        _take(leaf, vectors, out)  # type: ignore[arg-type]
        return True
    everywhere = [a for e in axes for a in atoms(e)]
    for d, expr in enumerate(axes):
        (t,) = expr if len(expr) == 1 else (None,)
        if not isinstance(t, Atom) or everywhere.count(t) > 1 or outer.get(t):
            continue
        if not any(t in outer[a] for a in given):
            continue
        inner = {a: tuple(o for o in outer[a] if o is not t) for a in given if a is not t}
        rest = (*axes[:d], *axes[d + 1 :])
        for k, source in enumerate(given.get(t, range(t.size))):
            own = {a: given[a].take(k, outer[a].index(t)) if t in outer[a] else given[a]
                   for a in inner}  # fmt: skip
            before = (slice(None),) * d
            if not _move(inner, own, leaf[(*before, source)], rest, out[(*before, k)]):
                return False
        return True
    return False


def _take(leaf: np.ndarray, vectors: Sequence[np.ndarray], out: np.ndarray) -> None:
    """The entries at these indices of each axis (empty: all), in blocks that stay in the cache."""
    moved = [v.size > 0 for v in vectors]
    if not any(moved) or not leaf.size:
        out[...] = leaf
        return
    first = moved.index(True)
    if first and leaf.flags.c_contiguous and out.flags.c_contiguous:  # axes before it as one
        vectors, shape = [vectors[0][:0], *vectors[first:]], (-1, *leaf.shape[first:])
        leaf, out = leaf.reshape(shape), out.reshape(shape)
    rows, rest = vectors[0], [(d, v) for d, v in enumerate(vectors) if d and v.size]
    if not rows.size and len(rest) > 1 and leaf.nbytes > _CACHED * len(leaf):
        for part, into in zip(leaf, out, strict=True):  # whose rows can be moved block by block
            _take(part, vectors[1:], into)
        return
    step = max(1, _CACHED * len(leaf) // leaf.nbytes) if rest else len(leaf)
    for start in range(0, len(leaf), step):
        into = out[start : start + step]
        if not rows.size:
            part = leaf[start : start + step]
        elif leaf.flags.c_contiguous:
            part = _taken(leaf, rows[start : start + step], 0, None if rest else into)
        else:
            part = leaf[rows[start : start + step]]
        for d, v in rest:
            part = _taken(part, v, d, into if d == rest[-1][0] else None)
        if part is not into:
            into[...] = part


def _taken(array: np.ndarray, indices: np.ndarray, axis: int, into: np.ndarray | None) -> Any:
    """`np.take` in mode "clip", which needs no buffer: all indices are in range."""
    whole = into is not None and into.flags.c_contiguous
    return np.take(array, indices, axis, into if whole else None, "clip")


def _sources(outer: _Outer, given: Mapping[Atom, Any], expr: Expr, xp: Any) -> Any:
    """Source index of each position of an axis (empty where nothing moves); None if it differs
    along other axes."""
    if all(a not in given for a in atoms(expr)):
        return xp.zeros((0,), int)
    return _product(outer, given, expr, xp, {}, 1)


def _product(
    outer: _Outer, given: Mapping[Atom, Any], expr: Expr, xp: Any, at: Mapping[Atom, Any], n: int
) -> Any:
    """Source index of each of `n` positions before this part of an axis and each in it, flat;
    counted from the part's start.

    **Arguments:**
    - `at`: atom that stands before → its unit at each of the n positions
    """
    index, at, stood = xp.zeros((n,), int), dict(at), set(at)
    for factor in expr:
        if isinstance(factor, Family) and any(a in given for a in atoms((factor,))):
            return None
        size = factor.size
        if isinstance(factor, Concat):
            vector = _parts(outer, given, factor, xp, at, n)
        elif isinstance(factor, Atom) and factor in given:
            before = [at.get(o) for o in outer[factor]]
            if any(b is None for b in before):
                return None
            vector = given[factor]
            vector = vector[tuple(before)] if before else vector[None]
        else:
            vector = xp.arange(size)[None]
        if vector is None:
            return None
        index = (index[:, None] * size + vector).reshape(-1)
        at = {a: xp.repeat(p, size) for a, p in at.items()}
        if isinstance(factor, Atom):
            # Which of two would be meant is for the general rule to say.
            twice = factor in stood
            stood.add(factor)
            at.pop(factor, None)
            if not twice:
                at[factor] = xp.tile(xp.arange(size), n)
        n *= size
    return index


def _parts(
    outer: _Outer,
    given: Mapping[Atom, Any],
    concat: Concat,
    xp: Any,
    at: Mapping[Atom, Any],
    n: int,
) -> Any:
    """As `_product`, of parts one after the other: (n, size)."""
    parts, start = [], 0
    for part in concat.parts:
        inner = _product(outer, given, part, xp, at, n)
        if inner is None:
            return None
        inner = inner.reshape(n, -1)
        # Counted from the part's start for each position before it.
        parts.append(start + inner)
        start += math.prod(f.size for f in part)
    return xp.concatenate(parts, 1)


__all__ = ["permute_leaf", "touches"]
