"""What a whole program requires of the unknown exponents: one walk over its equations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..axes import Axes
from ..frozen import Analysis
from ..program import Constant, Equation, Operand, Program, scan_counts
from ..rules import RULES
from ..rules.elementwise import elementwise
from .contractions import convolution, dot_general
from .pointwise import extreme, linear, rule_of, zeros
from .systems import NONE, Constraints
from .values import Value, along, dropped, free, laid, leaf, placed, reshaped, sliced, together

Handler = Callable[["Walk", Program, Equation, list[Value]], list[Value]]
_HANDLERS: dict[str, Handler] = {}


class Walk:
    """The values of a program, equation by equation."""

    def __init__(self, analysis: Analysis, leaf_axes: Sequence[Axes]) -> None:
        self.analysis = analysis
        self.constraints = Constraints()
        self.leaves = [leaf(self.constraints, axes) for axes in leaf_axes]
        program = analysis.program
        given = program.inputs[len(self.leaves) :]
        inputs = [*self.leaves, *(Value(program.shape(v)) for v in given)]
        copies = [Value(v.shape, dict(v.unknowns)) for v in inputs]
        outputs = self.run(program, copies)
        self.constraints.where = "an output of the model"
        for value in outputs:
            dropped(self.constraints, value)

    def run(self, program: Program, inputs: Sequence[Value]) -> list[Value]:
        known = dict(zip(program.inputs, inputs, strict=True))

        def read(operand: Operand) -> Value:
            if isinstance(operand, Constant):
                return _constant(operand, program.shape(operand))
            found = known[operand]
            return Value(found.shape, dict(found.unknowns), found.zero)

        for equation in program.equations:
            operands = [read(o) for o in equation.inputs]
            results = self.apply(program, equation, operands)
            for output, value in zip(equation.outputs, results, strict=True):
                known[output] = value
        return [read(o) for o in program.outputs]

    def apply(self, program: Program, equation: Equation, operands: list[Value]) -> list[Value]:
        """The results of an equation; what has no rule keeps permutations only."""
        self.constraints.where = equation.name
        handler = _HANDLERS.get(equation.name)
        if handler is None and RULES.get(equation.name) is elementwise:
            handler = _pointwise
        plain = not any(v.unknowns or v.zero is not None for v in operands)
        if handler is None or (plain and not equation.bodies):
            for value in operands:
                dropped(self.constraints, value)
            return [Value(program.shape(o)) for o in equation.outputs]
        return handler(self, program, equation, operands)

    def linear(self, unknowns: Sequence[int]) -> int:
        return linear(self.constraints, unknowns)

    def extreme(self, unknowns: Sequence[int]) -> int:
        return extreme(self.constraints, unknowns)

    def joined(self, value: Value, dims: Sequence[int], rule: Callable | None = None) -> Value:
        """One unknown for all entries along some axes."""
        unknowns = {k: along(value.at(k), dims, rule or self.linear) for k in value.unknowns}
        zero = (
            None if value.zero is None else np.asarray(value.zero.all(tuple(dims), keepdims=True))
        )
        return Value(value.shape, unknowns, zero)

    def alike(self, values: Sequence[Value]) -> Value:
        """One value that each of these may be."""
        keys = dict.fromkeys(k for v in values for k in v.unknowns)
        found = {k: together([v.at(k) for v in values], lambda *a: self.linear(a)) for k in keys}
        return Value(values[0].shape, found)


def _constant(operand: Constant, shape: tuple[int, ...]) -> Value:
    value = operand.value
    try:
        zero = not np.asarray(value).any()
    except (TypeError, ValueError):  # random keys
        zero = False
    return Value(shape, {}, np.full((1,) * len(shape), True) if zero else None)


def _handles(*names: str) -> Callable[[Handler], Handler]:
    def register(function: Handler) -> Handler:
        _HANDLERS.update(dict.fromkeys(names, function))
        return function

    return register


def _pointwise(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    name, shape = equation.name, program.shape(equation.outputs[0])
    if len(equation.outputs) > 1 or name in ("opt_barrier", "optimization_barrier"):
        return values
    if name == "bitcast_convert_type":
        for value in values:
            dropped(walk.constraints, value)
        return [Value(shape)]
    if (
        name == "convert_element_type"
        and not np.issubdtype(np.dtype(equation.params["new_dtype"]), np.inexact)
        and equation.params["new_dtype"].name != "bfloat16"
    ):
        name = "floor"
    values = [v if v.rank == len(shape) else _lifted(v, len(shape)) for v in values]
    exponent = equation.params["y"] if name == "integer_pow" else None
    if name == "pow" and isinstance(equation.inputs[1], Constant):
        exponent = _whole(equation.inputs[1].value)
    rule = rule_of(name, exponent)
    out = Value(shape)
    for key in dict.fromkeys(k for v in values for k in v.unknowns):
        found = together([v.at(key) for v in values], lambda *a: rule(walk.constraints, a))
        if (found != NONE).any():
            out.unknowns[key] = found
    out.zero = zeros(name, [v.zero for v in values])  # type: ignore[assignment]
    return [out]


def _lifted(value: Value, rank: int) -> Value:
    """A scalar beside arrays."""
    ones = (1,) * rank
    return Value(ones, {}, None if value.zero is None else value.zero.reshape(ones))


def _whole(value: Any) -> int | None:
    array = np.asarray(value)
    return int(array) if array.ndim == 0 and float(array).is_integer() else None


@_handles("transpose")
def _transpose(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    permutation = equation.params["permutation"]
    targets = [permutation.index(d) for d in range(len(permutation))]
    return [placed(values[0], targets, program.shape(equation.outputs[0]))]


@_handles("squeeze")
def _squeeze(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    (value,) = values
    gone = {d % value.rank for d in equation.params["dimensions"]}
    kept = [d for d in range(value.rank) if d not in gone]
    targets = [kept.index(d) if d in kept else None for d in range(value.rank)]
    return [placed(value, targets, program.shape(equation.outputs[0]))]


@_handles("broadcast_in_dim")
def _broadcast(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    targets = list(equation.params["broadcast_dimensions"])
    return [placed(values[0], targets, program.shape(equation.outputs[0]))]


@_handles("expand_dims")
def _expand(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    shape = program.shape(equation.outputs[0])
    targets = [d for d in range(len(shape)) if d not in equation.params["dimensions"]]
    return [placed(values[0], targets, shape)]


@_handles("reshape")
def _reshape(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    (output,) = equation.outputs
    if equation.params.get("dimensions") is not None or 0 in values[0].shape:
        dropped(walk.constraints, values[0])
        return [Value(program.shape(output))]
    axes = walk.analysis.of(output)
    return [reshaped(walk.constraints, values[0], program.shape(output), axes)]


@_handles("concatenate")
def _concatenate(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    shape = program.shape(equation.outputs[0])
    return [laid(values, equation.params["dimension"], shape)]


@_handles("stack")
def _stack(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    shape, dim = program.shape(equation.outputs[0]), equation.params["axis"]
    targets = [d for d in range(len(shape)) if d != dim]
    one = (*shape[:dim], 1, *shape[dim + 1 :])
    return [laid([placed(v, targets, one) for v in values], dim, shape)]


@_handles("pad")
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


@_handles("slice")
def _slice(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    p = equation.params
    strides = p["strides"] or (1,) * values[0].rank
    index = list(map(slice, p["start_indices"], p["limit_indices"], strides))
    return [sliced(values[0], index, program.shape(equation.outputs[0]))]


@_handles("split")
def _split(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    return _parts(values[0], equation.params["axis"], equation.params["sizes"])


@_handles("unstack")
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


@_handles("rev")
def _reverse(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    dims = equation.params["dimensions"]
    return [values[0].moved(lambda a: np.flip(a, dims), values[0].shape)]


@_handles("reduce_sum", "reduce_max", "reduce_min")
def _reduce(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    shape, dims = program.shape(equation.outputs[0]), equation.params["axes"]
    if equation.name == "reduce_sum":
        return [summed(walk, values[0], dims, shape)]
    value = values[0]
    dropped(walk.constraints, value, [k for k in value.unknowns if k[1] in dims])
    return [_without(walk.joined(value, dims, walk.extreme), dims, shape)]


def summed(walk: Walk, value: Value, dims: Sequence[int], shape: Sequence[int]) -> Value:
    """The sum over some axes: over all the units of an atom it must not change."""
    for key in [k for k in value.unknowns if k[1] in dims]:
        for a in np.unique(value.at(key)):
            if a > NONE:
                walk.constraints.summed(int(a))
        del value.unknowns[key]
    return _without(walk.joined(value, dims), dims, shape)


def _without(value: Value, dims: Sequence[int], shape: Sequence[int]) -> Value:
    kept = [d for d in range(value.rank) if d not in dims]
    targets = [kept.index(d) if d in kept else None for d in range(value.rank)]
    return placed(value, targets, shape)


@_handles("argmax", "argmin")
def _arg_reduce(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    (value,), dims = values, equation.params["axes"]
    dropped(walk.constraints, value, [k for k in value.unknowns if k[1] in dims])
    walk.joined(value, dims, walk.extreme)
    return [Value(program.shape(equation.outputs[0]))]


@_handles("cumsum", "cummax", "cummin")
def _cumulative(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    rule = walk.linear if equation.name == "cumsum" else walk.extreme
    return [_mixed(walk, values[0], [equation.params["axis"]], values[0].shape, rule)]


@_handles("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def _window(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    shape = program.shape(equation.outputs[0])
    dims = [d for d, n in enumerate(equation.params["window_dimensions"])
            if n != 1 or shape[d] != values[0].shape[d]]  # fmt: skip
    rule = walk.linear if equation.name == "reduce_window_sum" else walk.extreme
    return [_mixed(walk, values[0], dims, shape, rule)]


@_handles("fft")
def _fourier(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    rank = values[0].rank
    dims = range(rank - len(equation.params["fft_lengths"]), rank)
    return [_mixed(walk, values[0], dims, program.shape(equation.outputs[0]), walk.linear)]


def _mixed(
    walk: Walk, value: Value, dims: Sequence[int], shape: Sequence[int], rule: Callable
) -> Value:
    """Entries along some axes come together, in whatever order."""
    dropped(walk.constraints, value, [k for k in value.unknowns if k[1] in dims])
    made = walk.joined(Value(value.shape, value.unknowns), dims, rule)
    return Value(tuple(shape), made.unknowns)


@_handles("dynamic_slice")
def _dynamic_slice(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    for index in values[1:]:
        dropped(walk.constraints, index)
    shape = program.shape(equation.outputs[0])
    dims = [d for d in range(len(shape)) if shape[d] != values[0].shape[d]]
    return [_mixed(walk, values[0], dims, shape, walk.linear)]


@_handles("dynamic_update_slice")
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


@_handles("gather")
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


@_handles("dot_general")
def _dot(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    product, dims = dot_general(walk.constraints, equation, values)
    return [summed(walk, product, dims, program.shape(equation.outputs[0]))]


@_handles("conv_general_dilated")
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


# -- control flow ---------------------------------------------------------------------------


@_handles("cond")
def _cond(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    dropped(walk.constraints, values[0])
    copies = [[Value(v.shape, dict(v.unknowns), v.zero) for v in values[1:]]
              for _ in equation.bodies]  # fmt: skip
    found = [walk.run(b, v) for b, v in zip(equation.bodies, copies, strict=True)]
    walk.constraints.where = equation.name
    return [walk.alike(list(each)) for each in zip(*found, strict=True)]


@_handles("scan")
def _scan(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    body = equation.bodies[0]
    n_const, n_carry = scan_counts(program, equation)
    first = n_const + n_carry
    slices = []
    for value in values[first:]:
        dropped(walk.constraints, value, [k for k in value.unknowns if k[1] == 0])
        value = walk.joined(value, [0])
        slices.append(_without(value, [0], value.shape[1:]))
    carry = _carry(walk, body.inputs[n_const:first])
    outputs = walk.run(body, [*values[:n_const], *map(_copy, carry), *slices])
    walk.constraints.where = equation.name
    pairs = zip(carry, values[n_const:first], outputs[:n_carry], strict=True)
    done = [walk.alike(list(each)) for each in pairs]
    ys = [
        placed(v, range(1, v.rank + 1), program.shape(o))
        for v, o in zip(outputs[n_carry:], equation.outputs[n_carry:], strict=True)
    ]
    return [*done, *ys]


@_handles("while")
def _while(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    n_cond, n_body = equation.params["cond_nconsts"], equation.params["body_nconsts"]
    condition, body = equation.bodies
    first = n_cond + n_body
    carry = _carry(walk, body.inputs[n_body:])
    for value in walk.run(condition, [*values[:n_cond], *map(_copy, carry)]):
        dropped(walk.constraints, value)
    outputs = walk.run(body, [*values[n_cond:first], *map(_copy, carry)])
    walk.constraints.where = equation.name
    return [walk.alike(list(each)) for each in zip(carry, values[first:], outputs, strict=True)]


def _carry(walk: Walk, inputs: Sequence[int]) -> list[Value]:
    """Of what comes around again nothing is known but where units stand."""
    return [leaf(walk.constraints, walk.analysis.of(v)) for v in inputs]


def _copy(value: Value) -> Value:
    return Value(value.shape, dict(value.unknowns), value.zero)


__all__ = ["Walk"]
