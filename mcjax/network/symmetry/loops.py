"""Control flow: what comes around again is one value."""

from __future__ import annotations

from collections.abc import Sequence

from ..program import Equation, Program, scan_counts
from .values import Value, dropped, leaf, placed
from .walk import Walk, handles, without


@handles("cond")
def _cond(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    dropped(walk.constraints, values[0])
    found = [walk.run(b, [v.copy() for v in values[1:]]) for b in equation.bodies]
    walk.constraints.where = equation.name
    return [walk.alike(list(each)) for each in zip(*found, strict=True)]


@handles("scan")
def _scan(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    body = equation.bodies[0]
    n_const, n_carry = scan_counts(program, equation)
    first = n_const + n_carry
    slices = []
    for value in values[first:]:
        dropped(walk.constraints, value, [k for k in value.unknowns if k[1] == 0])
        value = walk.joined(value, [0])
        slices.append(without(value, [0], value.shape[1:]))
    carry = _carry(walk, body.inputs[n_const:first])
    outputs = walk.run(body, [*values[:n_const], *(v.copy() for v in carry), *slices])
    walk.constraints.where = equation.name
    pairs = zip(carry, values[n_const:first], outputs[:n_carry], strict=True)
    done = [walk.alike(list(each)) for each in pairs]
    ys = [
        placed(v, range(1, v.rank + 1), program.shape(o))
        for v, o in zip(outputs[n_carry:], equation.outputs[n_carry:], strict=True)
    ]
    return [*done, *ys]


@handles("while")
def _while(walk: Walk, program: Program, equation: Equation, values: list[Value]):
    n_cond, n_body = equation.params["cond_nconsts"], equation.params["body_nconsts"]
    condition, body = equation.bodies
    first = n_cond + n_body
    carry = _carry(walk, body.inputs[n_body:])
    for value in walk.run(condition, [*values[:n_cond], *(v.copy() for v in carry)]):
        dropped(walk.constraints, value)
    outputs = walk.run(body, [*values[n_cond:first], *(v.copy() for v in carry)])
    walk.constraints.where = equation.name
    return [walk.alike(list(each)) for each in zip(carry, values[first:], outputs, strict=True)]


def _carry(walk: Walk, inputs: Sequence[int]) -> list[Value]:
    """Of what comes around again nothing is known but where units stand."""
    return [leaf(walk.constraints, walk.analysis.of(v)) for v in inputs]
