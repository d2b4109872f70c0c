"""Contractions as products of entries that are then summed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..axes import Atom, Axes, Expr
from ..program import Equation, Program
from .pointwise import product
from .systems import NONE, Constraints
from .values import Key, Value, placed, together


def multiplied(
    constraints: Constraints,
    values: Sequence[Value],
    places: Sequence[Sequence[int | None]],
    shape: Sequence[int],
) -> Value:
    """The products of entries in a common index space, into which `places` put the axes."""
    lifted = [placed(v, p, shape) for v, p in zip(values, places, strict=True)]
    out = Value(tuple(shape))
    for key in dict.fromkeys(k for v in lifted for k in v.unknowns):
        found = together([v.at(key) for v in lifted], lambda *a: product(constraints, a))
        if (found != NONE).any():
            out.unknowns[key] = found
    return out


def dot_general(
    constraints: Constraints, equation: Equation, values: Sequence[Value]
) -> tuple[Value, list[int]]:
    """(products over batch, free and contracted indices; which of them are summed over)."""
    (contract_l, contract_r), (batch_l, batch_r) = equation.params["dimension_numbers"]
    lhs, rhs = values
    free_l = [d for d in range(lhs.rank) if d not in (*contract_l, *batch_l)]
    free_r = [d for d in range(rhs.rank) if d not in (*contract_r, *batch_r)]
    n_batch, n_out = len(batch_l), len(batch_l) + len(free_l) + len(free_r)
    shape = [*(lhs.shape[d] for d in (*batch_l, *free_l)), *(rhs.shape[d] for d in free_r),
             *(lhs.shape[d] for d in contract_l)]  # fmt: skip
    left = dict(zip((*batch_l, *free_l), range(n_batch + len(free_l)), strict=True))
    right = dict(zip(batch_r, range(n_batch), strict=True))
    right |= dict(zip(free_r, range(n_batch + len(free_l), n_out), strict=True))
    for k, (i, j) in enumerate(zip(contract_l, contract_r, strict=True)):
        left[i] = right[j] = n_out + k
    places = [[p[d] for d in range(v.rank)] for p, v in ((left, lhs), (right, rhs))]
    return multiplied(constraints, values, places, shape), list(range(n_out, len(shape)))


def convolution(
    constraints: Constraints,
    equation: Equation,
    values: Sequence[Value],
    axes: Sequence[Axes],
    program: Program,
) -> tuple[Value, list[int], list[int]] | None:
    """(products, where their axes stand in the result, which of them are summed over).

    What the values hold along space is the same everywhere. None for what is not understood.
    """
    p = equation.params
    spec, groups = p["dimension_numbers"], p["feature_group_count"]
    if p.get("batch_group_count", 1) != 1:
        return None
    (batch, channel), (out, into) = spec.lhs_spec[:2], spec.rhs_spec[:2]
    targets = [spec.out_spec[0], spec.out_spec[1]]
    lhs, rhs = values
    if groups == 1:
        shape = (lhs.shape[batch], rhs.shape[out], lhs.shape[channel])
        left = {batch: 0, channel: 2}
        right = {out: 1, into: 2}
        places = [[q.get(d) for d in range(v.rank)] for q, v in ((left, lhs), (right, rhs))]
        return multiplied(constraints, values, places, shape), targets, [2]
    opened_l = _opened(lhs, channel, groups, axes[0])
    opened_r = _opened(rhs, out, groups, axes[1])
    if opened_l is None or opened_r is None:
        return None
    after = into + 1 if into > out else into
    shape = (lhs.shape[batch], groups, rhs.shape[out] // groups, rhs.shape[into])
    left = {batch + (batch > channel): 0, channel: 1, channel + 1: 3}
    right = {out: 1, out + 1: 2, after: 3}
    both = (opened_l, opened_r)
    places = [[q.get(d) for d in range(v.rank)] for q, v in zip((left, right), both, strict=True)]
    return multiplied(constraints, both, places, shape), targets, [3]


def _opened(value: Value, axis: int, groups: int, axes: Axes) -> Value | None:
    """An axis read as (groups, rest); None where an atom stands on both."""
    n = value.shape[axis]
    shape = (*value.shape[:axis], groups, n // groups, *value.shape[axis + 1 :])
    out = Value(shape)
    for (atom, d), array in value.unknowns.items():
        wide = array.shape[axis] > 1
        sizes = (groups, n // groups) if wide else (1, 1)
        opened = array.reshape(*array.shape[:axis], *sizes, *array.shape[axis + 1 :])
        target = d + (d > axis)
        if d == axis:
            inner = _side(axes[axis], atom, groups)
            if inner is None:
                return None
            target = axis + inner
        key: Key = (atom, target)
        if key in out.unknowns:
            return None
        out.unknowns[key] = opened
    return out


def _side(expr: Expr, atom: Atom, groups: int) -> int | None:
    """0 for an atom among the groups, 1 for one inside them."""
    size = 1
    for factor in expr:
        before = size
        size *= factor.size
        if factor is atom:
            if size <= groups:
                return 0
            return 1 if before >= groups else None
    if sum(f.size for f in expr) == groups == int(np.prod([f.size for f in expr])):
        return 0  # one concatenation of channels, each its own group
    return None


__all__ = ["convolution", "dot_general"]
