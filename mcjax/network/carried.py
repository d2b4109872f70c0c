"""Values that carry a leaf: linear in it, with some of its axes left alone.

A map of those axes then does to the value what it does to the leaf: x (W g) = (x W) g.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from .program import Equation, Program

_SAME = {"neg", "copy"}


@dataclasses.dataclass(frozen=True)
class Carried:
    """A value that carries a leaf.

    - `leaf`: its number
    - `dims`: where the axes of the leaf that are left alone are on the value
    """

    leaf: int
    dims: tuple[int, ...]


def carried(program: Program, equation: Equation, kinds: Sequence[object]) -> Carried | None:
    """What the result of an equation carries of what its inputs do, None if nothing is certain.

    **Arguments:**
    - `kinds`: for each input what it carries, or `"fixed"`, or something else
    """
    which = [i for i, k in enumerate(kinds) if isinstance(k, Carried)]
    if len(which) != 1 or any(k != "fixed" for i, k in enumerate(kinds) if i != which[0]):
        return None
    found = kinds[which[0]]
    assert isinstance(found, Carried)
    dims = _dims(program, equation, which[0], found.dims)
    return None if dims is None else Carried(found.leaf, dims)


def _dims(
    program: Program, equation: Equation, which: int, dims: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Where axes of an input are on the result."""
    name, params = equation.name, equation.params
    before, after = program.shape(equation.inputs[which]), program.shape(equation.outputs[0])
    if name in _SAME:
        return dims
    if name == "mul" or (name == "div" and which == 0):
        by_one_number = math.prod(program.shape(equation.inputs[1 - which])) == 1
        return dims if by_one_number and before == after else None
    if name == "transpose":
        return tuple(params["permutation"].index(d) for d in dims)
    if name == "broadcast_in_dim":
        to = [params["broadcast_dimensions"][d] for d in dims]
        same = all(before[d] == after[e] for d, e in zip(dims, to, strict=True))
        return tuple(to) if same else None
    if name in ("reshape", "squeeze"):
        return _reshaped(before, after, dims)
    if name == "dot_general":
        return _contracted(equation, before, after, which, dims)
    if name == "conv_general_dilated":
        return _convolved(equation, which, dims)
    return None


def _reshaped(
    before: Sequence[int], after: Sequence[int], dims: Sequence[int]
) -> tuple[int, ...] | None:
    """Axes that come out as they are, row by row: as many entries stand before each of them."""
    found = []
    for d in dims:
        rows = math.prod(before[:d])
        same = [e for e, n in enumerate(after) if n == before[d] and math.prod(after[:e]) == rows]
        if not same or before[d] == 1:
            return None
        found.append(same[-1])
    return tuple(found)


def _contracted(
    equation: Equation, before: Sequence[int], after: Sequence[int], which: int,
    dims: Sequence[int],
) -> tuple[int, ...] | None:  # fmt: skip
    """The axes of an operand that are neither contracted nor shared with the other one."""
    contracted, batch = equation.params["dimension_numbers"]
    own = [d for d in range(len(before)) if d not in (*contracted[which], *batch[which])]
    first = len(after) - len(own) if which else len(batch[0])
    return tuple(first + own.index(d) for d in dims) if {*dims} <= {*own} else None


def _convolved(equation: Equation, which: int, dims: Sequence[int]) -> tuple[int, ...] | None:
    """The output features of a kernel."""
    params = equation.params
    numbers = params["dimension_numbers"]
    grouped = params["feature_group_count"] != 1 or params["batch_group_count"] != 1
    if which != 1 or grouped or tuple(dims) != (numbers.rhs_spec[0],):
        return None
    return (numbers.out_spec[1],)


__all__ = ["Carried", "carried"]
