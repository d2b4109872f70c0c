"""Operations that only move entries: the unknowns move alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..program import Equation, Program
from .values import Value, dropped, free, laid, placed, reshaped, sliced
from .walk import Walk, handles


@handles("transpose")
def _transpose(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    permutation = equation.params["permutation"]
    targets = [permutation.index(d) for d in range(len(permutation))]
    return [placed(values[0], targets, program.shape(equation.outputs[0]))]


@handles("squeeze")
def _squeeze(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    (value,) = values
    gone = {d % value.rank for d in equation.params["dimensions"]}
    kept = [d for d in range(value.rank) if d not in gone]
    targets = [kept.index(d) if d in kept else None for d in range(value.rank)]
    return [placed(value, targets, program.shape(equation.outputs[0]))]


@handles("broadcast_in_dim")
def _broadcast(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    targets = list(equation.params["broadcast_dimensions"])
    return [placed(values[0], targets, program.shape(equation.outputs[0]))]


@handles("expand_dims")
def _expand(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    shape = program.shape(equation.outputs[0])
    targets = [d for d in range(len(shape)) if d not in equation.params["dimensions"]]
    return [placed(values[0], targets, shape)]


@handles("reshape")
def _reshape(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    (output,) = equation.outputs
    if 0 in values[0].shape:
        return [Value(program.shape(output))]
    if equation.params.get("dimensions") is not None:
        dropped(walk.constraints, values[0])
        return [Value(program.shape(output))]
    axes = walk.analysis.of(output)
    return [reshaped(walk.constraints, values[0], program.shape(output), axes)]


@handles("concatenate")
def _concatenate(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    shape = program.shape(equation.outputs[0])
    return [laid(values, equation.params["dimension"], shape)]


@handles("stack")
def _stack(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    shape, dim = program.shape(equation.outputs[0]), equation.params["axis"]
    targets = [d for d in range(len(shape)) if d != dim]
    one = (*shape[:dim], 1, *shape[dim + 1 :])
    return [laid([placed(v, targets, one) for v in values], dim, shape)]


@handles("pad")
def _pad(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    value, filling = values
    shape = program.shape(equation.outputs[0])
    config, axes = equation.params["padding_config"], walk.analysis.of(equation.outputs[0])
    zero = filling.zero is not None
    for d, (low, high, interior) in enumerate(config):
        if (low, high, interior) == (0, 0, 0):
            continue
        opened = [list(value.shape), list(value.shape)]
        if low < 0 or high < 0 or interior or (zero and not free(axes[d])):
            dropped(walk.constraints, value, [k for k in value.unknowns if k[1] == d])
            value = walk.joined(value, [d])  # zeros in between have any exponent
            if not zero:
                opened[0][d] = 1
            filled = Value(tuple(opened[0]), {}, None)
            if not zero:
                value = walk.joined(laid([value, filled], d, value.shape), [d])
            value = Value((*value.shape[:d], shape[d], *value.shape[d + 1 :]),
                          value.unknowns, value.zero)  # fmt: skip
            continue
        parts = []
        for n in (low, high):
            part = (*value.shape[:d], n, *value.shape[d + 1 :])
            parts.append(Value(part, {}, np.full((1,) * value.rank, True) if zero else None))
        laid_out = [v for v in (parts[0], value, parts[1]) if v.shape[d]]
        full = (*value.shape[:d], shape[d], *value.shape[d + 1 :])
        value = laid(laid_out, d, full)
    return [value]


@handles("slice")
def _slice(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    p = equation.params
    strides = p["strides"] or (1,) * values[0].rank
    index = list(map(slice, p["start_indices"], p["limit_indices"], strides))
    return [sliced(values[0], index, program.shape(equation.outputs[0]))]


@handles("split")
def _split(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    return _parts(values[0], equation.params["axis"], equation.params["sizes"])


@handles("unstack")
def _unstack(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    dim, (value,) = equation.params["axis"], values
    targets = [d - (d > dim) if d != dim else None for d in range(value.rank)]
    ones = _parts(value, dim, [1] * value.shape[dim])
    return [placed(v, targets, v.shape[:dim] + v.shape[dim + 1 :]) for v in ones]


def _parts(value: Value, dim: int, sizes: Sequence[int]) -> list[Value]:
    out, start = [], 0
    for n in sizes:
        index = [slice(None)] * value.rank
        index[dim] = slice(start, start + n)
        out.append(sliced(value, index, (*value.shape[:dim], n, *value.shape[dim + 1 :])))
        start += n
    return out


@handles("rev")
def _reverse(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    dims = equation.params["dimensions"]
    return [values[0].moved(lambda a: np.flip(a, dims), values[0].shape)]
