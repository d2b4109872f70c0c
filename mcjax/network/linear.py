"""What of a program is linear in the parameters: computed once for each point of a path."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax.numpy as jnp

from .program import Equation, Operand, Program, used

_LINEAR_UNARY = {
    "reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim", "slice", "copy",
    "neg", "reduce_sum", "rev", "stop_gradient",
}  # fmt: skip
_SUMS = {"add", "sub", "add_any"}
_CONTRACTIONS = {"dot_general", "conv_general_dilated"}
# Multiply-adds per element below which recombining points costs as much as it saves.
_WORTHWHILE = 32


@dataclasses.dataclass(frozen=True, eq=False)
class LinearPart:
    """`frontier`: values linear in the parameters; `program` computes them from leaves and x."""

    program: Program
    frontier: tuple[int, ...]


def linear_part(program: Program, n_leaves: int) -> LinearPart | None:
    """The values that are linear in the parameter leaves, hold data and are worth sharing.

    With θ(t) = Σ_k c_k(t) θ_k such a value is Σ_k c_k(t) value(θ_k). None if there is none.
    """
    kinds: dict[int, str] = {}  # "data", "linear", "other"
    work: dict[int, float] = {}  # multiply-adds behind a linear value that holds data
    for i, value in enumerate(program.inputs):
        inexact = jnp.issubdtype(program.avals[value].dtype, jnp.inexact)
        kinds[value] = "data" if i >= n_leaves else "linear" if inexact else "other"
    for equation in program.equations:
        kind, flops = _classify(program, equation, kinds, work)
        for value in equation.outputs:
            kinds[value] = kind
            if kind == "linear" and flops:
                work[value] = flops
    frontier = dict.fromkeys(
        o
        for equation in program.equations
        if any(kinds[v] == "other" for v in equation.outputs)
        for o in equation.inputs
        if o in work
    )
    frontier |= dict.fromkeys(o for o in program.outputs if o in work)
    worthwhile = tuple(
        v
        for v in frontier
        if isinstance(v, int) and work[v] >= _WORTHWHILE * math.prod(program.shape(v))
    )
    if not worthwhile:
        return None
    part = dataclasses.replace(
        program, outputs=worthwhile, equations=used(program.equations, worthwhile)
    )
    return LinearPart(part, worthwhile)


def _classify(
    program: Program, equation: Equation, kinds: dict[int, str], work: dict[int, float]
) -> tuple[str, float]:
    def kind_of(operand: Operand) -> str:
        return kinds[operand] if isinstance(operand, int) else "data"

    inputs = [kind_of(o) for o in equation.inputs]
    linear = [o for o, k in zip(equation.inputs, inputs, strict=True) if k == "linear"]
    flops = sum(work.get(o, 0.0) for o in linear if isinstance(o, int))
    if "other" in inputs:
        return "other", 0.0
    if not linear:
        return "data", 0.0
    name = equation.name
    if name in _LINEAR_UNARY and len(inputs) == 1:
        return "linear", flops
    if name in _SUMS and len(linear) == 2:
        return "linear", flops
    if name == "mul" and len(linear) == 1:
        return "linear", flops
    if name == "div" and inputs[0] == "linear" and len(linear) == 1:
        return "linear", flops
    if name in _CONTRACTIONS and len(linear) == 1 and not flops:
        return "linear", _multiply_adds(program, equation)
    return "other", 0.0


def _multiply_adds(program: Program, equation: Equation) -> float:
    out = math.prod(program.shape(equation.outputs[0]))
    if equation.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = program.shape(equation.inputs[0])
        return out * math.prod(shape[d] for d in contracted)
    dims = equation.params["dimension_numbers"]
    kernel = program.shape(equation.inputs[1])
    return out * math.prod(kernel) / kernel[dims.rhs_spec[0]]


def leaves_of(program: Program, n_leaves: int) -> Sequence[int]:
    """Numbers of the parameter leaves that a program reads."""
    read = {o for e in program.equations for o in e.inputs} | set(program.outputs)
    return [i for i, v in enumerate(program.inputs[:n_leaves]) if v in read]
