"""What a whole program requires of the unknown exponents: one walk over its equations.

An operation's handler is registered by `handles`, in the file of its kind: `moving.py`, `sums.py`,
`loops.py`. What is element-wise is here, by the rules of `pointwise.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..axes import Axes
from ..frozen import Analysis
from ..program import Constant, Equation, Operand, Program
from ..rules import RULES
from ..rules.elementwise import elementwise
from .pointwise import extreme, linear, rule_of, zeros
from .systems import NONE, Constraints
from .values import Value, along, dropped, leaf, placed, together

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
        outputs = self.run(program, [v.copy() for v in inputs])
        self.constraints.where = "an output of the model"
        for value in outputs:
            dropped(self.constraints, value)

    def run(self, program: Program, inputs: Sequence[Value]) -> list[Value]:
        known = dict(zip(program.inputs, inputs, strict=True))

        def read(operand: Operand) -> Value:
            if isinstance(operand, Constant):
                return _constant(operand, program.shape(operand))
            return known[operand].copy()

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


def handles(*names: str) -> Callable[[Handler], Handler]:
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


# -- entries that come together -------------------------------------------------------------


def summed(walk: Walk, value: Value, dims: Sequence[int], shape: Sequence[int]) -> Value:
    """The sum over some axes: over all the units of an atom it must not change."""
    for key in [k for k in value.unknowns if k[1] in dims]:
        for a in np.unique(value.at(key)):
            if a > NONE:
                walk.constraints.summed(int(a))
        del value.unknowns[key]
    return without(walk.joined(value, dims), dims, shape)


def without(value: Value, dims: Sequence[int], shape: Sequence[int]) -> Value:
    """Without axes of size one in the unknowns."""
    kept = [d for d in range(value.rank) if d not in dims]
    targets = [kept.index(d) if d in kept else None for d in range(value.rank)]
    return placed(value, targets, shape)


def mixed(
    walk: Walk, value: Value, dims: Sequence[int], shape: Sequence[int], rule: Callable
) -> Value:
    """Entries along some axes come together, in whatever order."""
    dropped(walk.constraints, value, [k for k in value.unknowns if k[1] in dims])
    made = walk.joined(Value(value.shape, value.unknowns), dims, rule)
    return Value(tuple(shape), made.unknowns)


__all__ = ["Walk", "handles", "mixed", "summed", "without"]
