"""What of a program the points of a path share: computed once, not once for each t."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence

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
class Part:
    """`frontier`: values worth sharing; `program` computes them from leaves and x."""

    program: Program
    frontier: tuple[int, ...]


def shared_values(
    program: Program, n_leaves: int, linear: Collection[int], fixed: Collection[int]
) -> tuple[Part | None, Part | None]:
    """What the points of a path have in common on the same data.

    **Arguments:**
    - `linear`: numbers of the leaves that combine fixed points, θ(t) = Σ_k c_k(t) θ_k
    - `fixed`: numbers of the leaves that do not depend on t

    **Returns:** (the values that do not depend on t, the values linear in the `linear` leaves,
    for which value(t) = Σ_k c_k(t) value(θ_k)); None where nothing is worth it.
    """
    kinds: dict[int, str] = {}  # "fixed", "linear", "other"
    work: dict[int, float] = {}  # multiply-adds behind a value
    for i, value in enumerate(program.inputs):
        inexact = jnp.issubdtype(program.avals[value].dtype, jnp.inexact)
        if i >= n_leaves or i in fixed:
            kinds[value] = "fixed"
        else:
            kinds[value] = "linear" if i in linear and inexact else "other"
    for equation in program.equations:
        kind, flops = _classify(program, equation, kinds, work)
        for value in equation.outputs:
            kinds[value] = kind
            if kind != "other" and flops:
                work[value] = flops

    def part(kind: str) -> Part | None:
        read = [
            o
            for equation in program.equations
            if any(kinds[v] != kind for v in equation.outputs)
            for o in equation.inputs
        ]
        frontier = tuple(
            v
            for v in dict.fromkeys([*read, *program.outputs])
            if isinstance(v, int)
            and kinds[v] == kind
            and work.get(v, 0.0) >= _WORTHWHILE * max(1, math.prod(program.shape(v)))
        )
        if not frontier:
            return None
        equations = used(program.equations, frontier)
        return Part(dataclasses.replace(program, outputs=frontier, equations=equations), frontier)

    return part("fixed"), part("linear")


def _classify(
    program: Program, equation: Equation, kinds: dict[int, str], work: dict[int, float]
) -> tuple[str, float]:
    def kind_of(operand: Operand) -> str:
        return kinds[operand] if isinstance(operand, int) else "fixed"

    inputs = [kind_of(o) for o in equation.inputs]
    linear = [o for o, k in zip(equation.inputs, inputs, strict=True) if k == "linear"]
    if "other" in inputs:
        return "other", 0.0
    behind = linear or equation.inputs
    flops = sum(work.get(o, 0.0) for o in behind if isinstance(o, int))
    if not linear:
        if equation.name in _CONTRACTIONS:
            flops += multiply_adds(program, equation)
        return "fixed", flops
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
        return "linear", multiply_adds(program, equation)
    return "other", 0.0


def multiply_adds(program: Program, equation: Equation) -> float:
    out = math.prod(program.shape(equation.outputs[0]))
    if equation.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = program.shape(equation.inputs[0])
        return out * math.prod(shape[d] for d in contracted)
    dims = equation.params["dimension_numbers"]
    kernel = program.shape(equation.inputs[1])
    return out * math.prod(kernel) / kernel[dims.rhs_spec[0]]


def work(part: Part | None, given: Part | None = None) -> float:
    """Multiply-adds of a part's contractions, those in loops and those of `given` left out."""
    if part is None:
        return 0.0
    known = set() if given is None else {e.index for e in given.program.equations}
    return sum(
        multiply_adds(part.program, e)
        for e in part.program.equations
        if e.name in _CONTRACTIONS and e.index not in known
    )


def leaves_of(program: Program, n_leaves: int) -> Sequence[int]:
    """Numbers of the parameter leaves that a program reads."""
    read = {o for e in program.equations for o in e.inputs} | set(program.outputs)
    return [i for i, v in enumerate(program.inputs[:n_leaves]) if v in read]
