"""One view of arrays for permuting and for matching: every factor on an axis of its own.

Concatenations are sliced, families are split along the axis they follow and products are
unflattened, until a block's dimensions are atoms (or positions, of whatever kind). The same
recursion serves parameters (to permute or to compare them) and activations (to compare them).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from .axes import (
    Atom,
    Axes,
    Concat,
    Expr,
    Family,
    Labels,
    Uniform,
    atoms,
    inside,
    mentioned,
    pick,
    size,
)


@dataclasses.dataclass(frozen=True)
class Dim:
    """One dimension of a block: its factor and the axis of the array it came from."""

    factor: Atom | Uniform | Concat | Family
    axis: int
    only: int | None = None  # the block holds only this index of a fixed atom

    @property
    def size(self) -> int:
        return self.factor.size if self.only is None else 1


Block = tuple[Dim, ...]


@dataclasses.dataclass(frozen=True)
class Cut:
    """An array read in `shape` and cut along `axis` into parts, (length, plan of the part)."""

    shape: tuple[int, ...]
    axis: int
    parts: tuple[tuple[int, Plan], ...]


# How an array comes apart into blocks: not cut, a block of this shape, or cut.
Plan = tuple[int, ...] | Cut


def plan(axes: Axes) -> tuple[Plan, list[Block]]:
    """How an array with these axes comes apart, and the dimensions of each block."""
    found: list[Block] = []
    return _plan(tuple(Dim(f, i) for i, expr in enumerate(axes) for f in expr), found), found


def cut(array, how: Plan) -> list[Any]:
    """The blocks of an array, in the order of the plan (views, of a NumPy array)."""
    if isinstance(how, tuple):
        return [array.reshape(how)]
    array, out, start = array.reshape(how.shape), [], 0
    for length, part in how.parts:
        index = [slice(None)] * array.ndim
        index[how.axis] = slice(start, start + length)
        out += cut(array[tuple(index)], part)
        start += length
    return out


def join(found: Iterable[Any], how: Plan, shape: tuple[int, ...]):
    """The array of this shape of which these are the blocks."""
    return _join(iter(found), how).reshape(shape)


def _join(found: Iterator[Any], how: Plan):
    if isinstance(how, tuple):
        return next(found)
    before, after = how.shape[: how.axis], how.shape[how.axis + 1 :]
    pieces = [_join(found, part).reshape(*before, n, *after) for n, part in how.parts]
    on_host = all(isinstance(p, np.ndarray) for p in pieces)
    return (np if on_host else jnp).concatenate(pieces, axis=how.axis)


def map_blocks(function: Callable[[Any, Block], Any], array, axes: Axes):
    """Apply `function(block, dims)` to every block of `array` and put the results together.

    `function` returns an array of the block's shape. Works on NumPy and on JAX arrays.
    """
    how, dims = plan(axes)
    done = (function(b, d) for b, d in zip(cut(array, how), dims, strict=True))
    return join(done, how, np.shape(array))


def blocks(array, axes: Axes) -> list[tuple[Any, Block]]:
    """Every block of `array` with its dimensions."""
    how, dims = plan(axes)
    return list(zip(cut(array, how), dims, strict=True))


def _plan(dims: Block, found: list[Block]) -> Plan:
    """The plan of an array with these dimensions; adds its blocks to those found."""
    shape = tuple(d.size for d in dims)
    composed = [(i, d.factor) for i, d in enumerate(dims) if isinstance(d.factor, Concat | Family)]
    followed = _followed(dims) if composed else set()
    apart = [(i, f) for i, f in composed if not _only_positions(f, followed)]
    # Concatenations first: families on other axes may follow their parts.
    for i, factor in apart:
        if isinstance(factor, Concat):
            pairs = zip(factor.parts, factor.labels, strict=True)
            inner = [(size(p), _plan(_part(dims, i, p, on), found)) for p, on in pairs]
            return Cut(shape, i, tuple(inner))
    # A family's key may be inside another family: that one comes first.
    present = {d.factor for d in dims if isinstance(d.factor, Atom)}
    families = [(i, f) for i, f in apart if isinstance(f, Family)]
    for i, factor in sorted(families, key=lambda pair: pair[1].key not in present):
        dim = dims[i]
        along = dependee(factor.key, dim, dims)
        key = dims[along]
        if key.only is not None:
            member = tuple(Dim(f, dim.axis) for f in factor.members[key.only])
            return _plan((*dims[:i], *member, *dims[i + 1 :]), found)
        inner = []
        for k in range(key.size):
            one = dataclasses.replace(key, only=k)
            inner.append((1, _plan((*dims[:along], one, *dims[along + 1 :]), found)))
        return Cut(shape, along, tuple(inner))
    found.append(dims)
    return shape


def _followed(dims: Block) -> set[Atom]:
    """The atoms that units depend on, and those that families follow."""
    found: set[Atom] = set()
    for dim in dims:
        for atom in mentioned((dim.factor,)):
            found |= atom.over
        found |= _keys((dim.factor,))
    return found


def _keys(expr: Expr) -> set[Atom]:
    found = {f.key for f in expr if isinstance(f, Family)}
    return found.union(*(_keys(part) for f in expr for part in inside(f)))


def _only_positions(factor: Concat | Family, followed: set[Atom]) -> bool:
    """However positions are composed: there is nothing to tell apart, if nothing follows them."""
    labelled = isinstance(factor, Concat) and any(factor.labels)
    return not labelled and all(a.fixed and a not in followed for a in atoms((factor,)))


def _part(dims: Block, i: int, part: Expr, labels: Labels) -> Block:
    """The dimensions of an array of which one part of dimension i is left."""
    out: list[Dim] = []
    for j, dim in enumerate(dims):
        if j == i:
            out.extend(Dim(f, dim.axis) for f in part)
        elif isinstance(dim.factor, Concat | Family):
            out.extend(Dim(f, dim.axis) for f in pick((dim.factor,), labels))
        else:
            out.append(dim)
    return tuple(out)


def dependee(key: Atom, dim: Dim, dims: Block) -> int:
    """The dimension that `dim` depends on: on its own axis before it, else the only one."""
    position = next(i for i, d in enumerate(dims) if d is dim)
    own = [i for i, d in enumerate(dims[:position]) if d.factor is key and d.axis == dim.axis]
    if len(own) == 1:
        return own[0]
    everywhere = [i for i, d in enumerate(dims) if d.factor is key]
    if len(everywhere) != 1:
        raise AssertionError(f"dependence of {dim} on {key} is ambiguous")
    return everywhere[0]
