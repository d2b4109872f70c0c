"""What of a program the points of a path share: computed once, not once for each t."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import jax.numpy as jnp

from .carried import Carried, carried
from .program import Equation, Operand, Program, used

_LINEAR_UNARY = {
    "reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim", "slice", "copy",
    "neg", "reduce_sum", "rev", "stop_gradient",
}  # fmt: skip
_SUMS = {"add", "sub", "add_any"}
_CONTRACTIONS = {"dot_general", "conv_general_dilated"}
# What a value is: "fixed", "linear", "other", or what carries a leaf that is moved.
Kind = str | Carried
# Multiply-adds per element below which recombining points costs as much as it saves.
_WORTHWHILE = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """`frontier`: values worth sharing; `program` computes them from leaves and x."""

    program: Program
    frontier: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """What the points of a path have in common on the same data; None where nothing is worth it.

    - `fixed`: the values that do not depend on t
    - `linear`: those for which value(t) = Σ_k c_k(t) value(θ_k)
    - `moved`: those for which value(t) = ρ(t) value(θ), and what of which leaf they carry
    """

    fixed: Part | None
    linear: Part | None
    moved: Part | None
    carried: Mapping[int, Carried]


def shared_values(
    program: Program,
    n_leaves: int,
    linear: Collection[int],
    fixed: Collection[int],
    moved: Mapping[int, tuple[Sequence[int], float]] = MappingProxyType({}),
) -> Parts:
    """What the points of a path have in common on the same data.

    **Arguments:**
    - `linear`: numbers of the leaves that combine fixed points, θ(t) = Σ_k c_k(t) θ_k
    - `fixed`: numbers of the leaves that do not depend on t
    - `moved`: number of a leaf that is ρ(t) θ with a linear map ρ(t) of some of its axes → (these
      axes, multiply-adds of ρ(t) for each entry)
    """
    kinds: dict[int, Kind] = {}
    work: dict[int, float] = {}  # multiply-adds behind a value
    for i, value in enumerate(program.inputs):
        inexact = jnp.issubdtype(program.avals[value].dtype, jnp.inexact)
        if i >= n_leaves or i in fixed:
            kinds[value] = "fixed"
        elif i in moved and inexact:
            kinds[value] = Carried(i, tuple(moved[i][0]))
        else:
            kinds[value] = "linear" if i in linear and inexact else "other"
    for equation in program.equations:
        kind, flops = _classify(program, equation, kinds, work)
        for value in equation.outputs:
            kinds[value] = kind
            if kind != "other" and flops:
                work[value] = flops

    def part(kind: str | type[Carried]) -> Part | None:
        def of(value: int) -> bool:
            found = kinds[value]
            return isinstance(found, Carried) if kind is Carried else found == kind

        read = [
            o
            for equation in program.equations
            if not all(of(v) for v in equation.outputs)
            for o in equation.inputs
        ]
        frontier = tuple(
            v
            for v in dict.fromkeys([*read, *program.outputs])
            if isinstance(v, int) and of(v) and pays(v)
        )
        if not frontier:
            return None
        equations = used(program.equations, frontier)
        return Part(dataclasses.replace(program, outputs=frontier, equations=equations), frontier)

    def pays(value: int) -> bool:
        found = kinds[value]
        again = moved[found.leaf][1] if isinstance(found, Carried) else 0.0
        entries = max(1, math.prod(program.shape(value)))
        return work.get(value, 0.0) >= (_WORTHWHILE + again) * entries

    held = {v: k for v, k in kinds.items() if isinstance(k, Carried)}
    return Parts(part("fixed"), part("linear"), part(Carried), held)


def _classify(
    program: Program, equation: Equation, kinds: dict[int, Kind], work: dict[int, float]
) -> tuple[Kind, float]:
    def kind_of(operand: Operand) -> Kind:
        return kinds[operand] if isinstance(operand, int) else "fixed"

    inputs = [kind_of(o) for o in equation.inputs]
    if any(isinstance(k, Carried) for k in inputs):
        found = carried(program, equation, inputs)
        if found is None:
            return "other", 0.0
        contracts = equation.name in _CONTRACTIONS
        flops = sum(work.get(o, 0.0) for o in equation.inputs if isinstance(o, int))
        return found, flops + (multiply_adds(program, equation) if contracts else 0.0)
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
