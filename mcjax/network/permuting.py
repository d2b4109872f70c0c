"""Units of one leaf permuted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from .axes import Atom, Axes, Concat, Expr, Family, atoms
from .groups import Group
from .layout import Layout, act


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

    def take(indices, block, layout: Layout):
        if not layout.fixed:
            return xp.take(block, indices, axis=layout.units[0])
        rows = layout.matrix(block)
        indices = indices.reshape(len(rows), -1)
        return layout.back(rows[xp.arange(len(rows))[:, None], indices])

    return act(take, groups, given, leaf, axes)


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


__all__ = ["permute_leaf", "touches"]
