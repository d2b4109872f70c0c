"""Operations that bring entries along some axes together: sums, extremes, windows, contractions."""

from __future__ import annotations

from ..program import Equation, Program
from .contractions import convolution, dot_general
from .values import Value, dropped, placed, reshaped
from .walk import Walk, handles, mixed, summed, without


@handles("reduce_sum", "reduce_max", "reduce_min")
def _reduce(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    shape, dims = program.shape(equation.outputs[0]), equation.params["axes"]
    if equation.name == "reduce_sum":
        return [summed(walk, values[0], dims, shape)]
    value = values[0]
    dropped(walk.constraints, value, [k for k in value.unknowns if k[1] in dims])
    return [without(walk.joined(value, dims, walk.extreme), dims, shape)]


@handles("argmax", "argmin")
def _arg_reduce(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    (value,), dims = values, equation.params["axes"]
    dropped(walk.constraints, value, [k for k in value.unknowns if k[1] in dims])
    walk.joined(value, dims, walk.extreme)
    return [Value(program.shape(equation.outputs[0]))]


@handles("cumsum", "cummax", "cummin")
def _cumulative(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    rule = walk.linear if equation.name == "cumsum" else walk.extreme
    return [mixed(walk, values[0], [equation.params["axis"]], values[0].shape, rule)]


@handles("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def _window(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    shape = program.shape(equation.outputs[0])
    dims = [d for d, n in enumerate(equation.params["window_dimensions"])
            if n != 1 or shape[d] != values[0].shape[d]]  # fmt: skip
    rule = walk.linear if equation.name == "reduce_window_sum" else walk.extreme
    return [mixed(walk, values[0], dims, shape, rule)]


@handles("fft")
def _fourier(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    rank = values[0].rank
    dims = range(rank - len(equation.params["fft_lengths"]), rank)
    return [mixed(walk, values[0], dims, program.shape(equation.outputs[0]), walk.linear)]


@handles("dynamic_slice")
def _dynamic_slice(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    for index in values[1:]:
        dropped(walk.constraints, index)
    shape = program.shape(equation.outputs[0])
    dims = [d for d in range(len(shape)) if shape[d] != values[0].shape[d]]
    return [mixed(walk, values[0], dims, shape, walk.linear)]


@handles("dynamic_update_slice")
def _dynamic_update(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    value, update, *indices = values
    for index in indices:
        dropped(walk.constraints, index)
    dims = [d for d in range(value.rank) if value.shape[d] != update.shape[d]]
    for v in (value, update):
        dropped(walk.constraints, v, [k for k in v.unknowns if k[1] in dims])
    return [
        Value(value.shape, walk.alike([walk.joined(v, dims) for v in (value, update)]).unknowns)
    ]


@handles("gather")
def _gather(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    value, indices = values
    dropped(walk.constraints, indices)
    dims, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    gone = (*dims.collapsed_slice_dims, *dims.operand_batching_dims)
    kept = [d for d in range(value.rank) if d not in gone]
    moved = [d for d in range(value.rank) if d in gone or sizes[d] != value.shape[d]]
    dropped(walk.constraints, value, [k for k in value.unknowns if k[1] in moved])
    value = walk.joined(Value(value.shape, value.unknowns), moved)
    targets = [dims.offset_dims[kept.index(d)] if d in kept else None for d in range(value.rank)]
    return [placed(value, targets, program.shape(equation.outputs[0]))]


@handles("dot_general")
def _dot(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    product, dims = dot_general(walk.constraints, equation, values)
    return [summed(walk, product, dims, program.shape(equation.outputs[0]))]


@handles("conv_general_dilated")
def _convolution(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    spec = equation.params["dimension_numbers"]
    for i, space in enumerate((spec.lhs_spec[2:], spec.rhs_spec[2:])):
        dropped(walk.constraints, values[i], [k for k in values[i].unknowns if k[1] in space])
        values[i] = walk.joined(Value(values[i].shape, values[i].unknowns), space)
    pair = [walk.analysis.of(o) if isinstance(o, int) else () for o in equation.inputs]
    made = convolution(walk.constraints, equation, values, pair, program)
    if made is None:
        for value in values:
            dropped(walk.constraints, value)
        return [Value(program.shape(equation.outputs[0]))]
    product, targets, inner = made
    shape = program.shape(equation.outputs[0])
    without = [n for d, n in enumerate(product.shape) if d not in inner]
    done = summed(walk, product, inner, without)
    if len(done.shape) == 3:  # batch, group, outputs: they are one axis of the result
        axes = walk.analysis.of(equation.outputs[0])
        batch, out = targets
        flat = (done.shape[0], done.shape[1] * done.shape[2])
        done = reshaped(walk.constraints, done, flat, (axes[batch], axes[out]))
    return [placed(done, targets, shape)]
