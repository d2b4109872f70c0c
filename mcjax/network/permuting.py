"""Units of one leaf permuted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from .axes import Atom, Axes, Concat, Expr, Family, atoms
from .blocks import Block, dependee, map_blocks
from .groups import Group


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
    xp: Any = np if isinstance(leaf, np.ndarray) else jnp
    vectors = [_axis_indices(expr, given, xp) for expr in axes]
    if all(v is not None for v in vectors):
        for axis, vector in enumerate(vectors):
            if vector is not None and vector.size:
                leaf = xp.take(leaf, vector, axis=axis)
        return leaf

    def move(block, dims: Block):
        todo = [(i, groups[d.factor]) for i, d in enumerate(dims) if d.factor in given]  # type: ignore[index]
        for i, group in sorted(todo, key=lambda pair: len(pair[1].outer)):
            block = _take_block(block, dims, i, group, given[group.atom], xp)
        return block

    return map_blocks(move, leaf, axes)


def _axis_indices(expr: Expr, given: Mapping[Atom, Any], xp):
    """Source index of each position of an axis; None if it differs along other axes."""
    if all(isinstance(f, Atom) and f not in given for f in expr):
        return xp.zeros((0,), int)  # nothing moves on this axis
    index = xp.zeros((1,), int)
    for factor in expr:
        if isinstance(factor, Family) or (isinstance(factor, Atom) and _dependent(factor, given)):
            return None
        if isinstance(factor, Concat):
            parts, offset = [], 0
            for part in factor.parts:
                inner = _axis_indices(part, given, xp)
                if inner is None:
                    return None
                length = int(np.prod([f.size for f in part], dtype=int))
                parts.append(offset + (inner if inner.size else xp.arange(length)))
                offset += length
            vector = xp.concatenate(parts)
        elif isinstance(factor, Atom) and factor in given:
            vector = given[factor]
        else:
            vector = xp.arange(factor.size)
        index = (index[:, None] * factor.size + vector[None]).reshape(-1)
    return index


def _dependent(atom: Atom, given: Mapping[Atom, Any]) -> bool:
    return atom in given and given[atom].ndim > 1


def _take_block(block, dims: Block, i: int, group: Group, indices: Any, xp):
    """Permute dimension i of a block, by an index array that may differ along other dimensions."""
    if not group.outer:
        return xp.take(block, indices, axis=i)
    along = [dependee(o, dims[i], dims) for o in group.outer]
    for position, dim in enumerate(along):
        if dims[dim].only is not None:  # the block is one index of that outer axis
            indices = xp.take(indices, xp.array([dims[dim].only]), axis=position)
    order = np.argsort([*along, i])
    shape = [1] * len(dims)
    for dim, n in zip([*along, i], indices.shape, strict=True):
        shape[dim] = n
    indices = xp.transpose(indices, order).reshape(shape)
    full = tuple(d.size for d in dims)
    return xp.take_along_axis(block, xp.broadcast_to(indices, full), axis=i)


__all__ = ["permute_leaf", "touches"]
