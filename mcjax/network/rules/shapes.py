"""Reshapes, broadcasts, concatenations and padding."""

from __future__ import annotations

from collections.abc import Sequence

from ..algebra import Algebra
from ..axes import Atom, Axes, Expr, Uniform, atoms, size
from ..expressions import ENUMERATED
from ._call import Call, rule


@rule("transpose")
def transpose(call: Call) -> list[Axes]:
    return [tuple(call.axes[0][d] for d in call.params["permutation"])]


@rule("squeeze")
def squeeze(call: Call) -> list[Axes]:
    rank = len(call.axes[0])
    gone = {d % rank for d in call.params["dimensions"]}
    return [tuple(e for d, e in enumerate(call.axes[0]) if d not in gone)]


@rule("expand_dims")
def expand_dims(call: Call) -> list[Axes]:
    out = list(call.axes[0])
    for dim in sorted(call.params["dimensions"]):
        out.insert(dim, ())
    return [tuple(out)]


@rule("broadcast_in_dim")
def broadcast(call: Call) -> list[Axes]:
    shape = call.out_shape()
    out: list[Expr] = [() if n == 1 else (Uniform(n),) for n in shape]
    for source, target in enumerate(call.params["broadcast_dimensions"]):
        if call.shape(0)[source] == shape[target]:
            out[target] = call.axes[0][source]
    return [tuple(out)]


@rule("empty", "empty2", "full_like")
def constant_fill(call: Call) -> list[Axes]:
    return [tuple(map(call.algebra.uniform, call.out_shape()))]


@rule("reshape")
def reshape(call: Call) -> list[Axes]:
    order = call.params.get("dimensions") or range(len(call.axes[0]))  # transposed first
    axes = [call.axes[0][d] for d in order]
    source, target = [call.shape(0)[d] for d in order], call.out_shape()
    if 0 in source:  # no entries, which tell nothing
        return constant_fill(call)
    out: list[Expr] = [()] * len(target)
    for first, last, start, stop in segments(source, target):
        stream: Expr = tuple(f for e in axes[first:last] for f in e)
        if not _pour(call.algebra, stream, target, out, start, stop):
            why = "reshape that cuts across units"
            call.algebra.fix(stream, why)
            for d in range(start, stop):
                out[d] = call.new(d, target[d], why)
    return [tuple(out)]


def segments(source: Sequence[int], target: Sequence[int]):
    """Runs of source and target axes between common cumulative sizes."""
    i = j = 0
    while i < len(source) or j < len(target):
        first, start, a, b = i, j, 1, 1
        if i < len(source):
            a, i = source[i], i + 1
        if j < len(target):
            b, j = target[j], j + 1
        while a != b:
            if a < b:
                a, i = a * source[i], i + 1
            else:
                b, j = b * target[j], j + 1
        yield first, i, start, j


def _pour(
    algebra: Algebra, stream: Expr, target: Sequence[int], out: list[Expr], start: int, stop: int
) -> bool:
    """Fill target axes start…stop with the factors of a stream; False if one does not split."""
    rest = algebra.resolve(stream)
    for d in range(start, stop):
        pieces = algebra.split_expr(rest, target[d])
        if pieces is None:
            return False
        out[d], rest = pieces
        rest = algebra.resolve(rest)
    for d in range(start, stop):
        out[d] = algebra.resolve(out[d])
    return True


@rule("concatenate")
def concatenate(call: Call) -> list[Axes]:
    lengths = [call.shape(i)[call.params["dimension"]] for i in range(len(call.axes))]
    if not any(lengths):
        return constant_fill(call)
    return [_lay_along(call.algebra, call.axes, call.params["dimension"], lengths)]


@rule("stack")
def stack(call: Call) -> list[Axes]:
    dim = call.params["axis"]
    opened: list[Axes] = [(*axes[:dim], (), *axes[dim:]) for axes in call.axes]
    return [_lay_along(call.algebra, opened, dim, [1] * len(opened))]


def _lay_along(
    algebra: Algebra, operands: Sequence[Axes], dim: int, lengths: Sequence[int]
) -> Axes:
    """The axes of arrays laid one after the other along `dim`; empty ones say nothing."""
    filled = [(axes, n) for axes, n in zip(operands, lengths, strict=True) if n]
    operands, lengths = zip(*filled, strict=True)
    columns = [[algebra.resolve(axes[d]) for axes in operands] for d in range(len(operands[0]))]
    along = algebra.concat(columns[dim])
    key = along[0] if len(along) == 1 else None
    out: list[Expr] = []
    for d, column in enumerate(columns):
        if d == dim:
            out.append(along)
        elif isinstance(key, Atom) and key.fixed and key.size <= ENUMERATED:
            # A stack of different units: they may differ for each index of the fixed axis. What
            # is constant in one part of positions (a class token's batch) is no other position.
            if not any(not a.fixed for e in column for a in atoms(e)):
                fixed = dict.fromkeys(e for e in column if any(atoms(e)))
                column = list(fixed) * len(column) if len(fixed) == 1 else column
            members = [e for e, n in zip(column, lengths, strict=True) for _ in range(n)]
            out.append(algebra.family(key, members))
        else:
            out.append(algebra.join_all(column))
    return tuple(out)


@rule("tile")
def tile(call: Call) -> list[Axes]:
    out = []
    for expr, reps in zip(call.axes[0], call.params["reps"], strict=True):
        out.append(call.algebra.resolve((Uniform(reps), *expr)) if reps > 1 else expr)
    return [tuple(out)]


@rule("pad")
def pad(call: Call) -> list[Axes]:
    if call.axes[1]:
        return call.fix_all("pad with an array")
    out: list[Expr] = []
    for d, (low, high, interior) in enumerate(call.params["padding_config"]):
        expr = call.axes[0][d]
        if low < 0 or high < 0 or interior:
            out.append(call.mix(expr, d, call.out_shape()[d], "cropped or dilated by pad"))
        else:
            parts = [(Uniform(low),), expr, (Uniform(high),)]
            parts = [call.algebra.resolve(p) for p in parts if size(p)]
            out.append(call.algebra.concat(parts))
    return [tuple(out)]
