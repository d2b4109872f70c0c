"""What each primitive does to the axes of its operands: one rule a primitive.

A rule sees the axes of the operands, joins or fixes what the primitive ties together or mixes,
and returns the axes of the results. A primitive without a rule fixes everything it touches:
conservative is allowed, wrong never.
"""

from __future__ import annotations

from collections.abc import Callable

from ..algebra import Algebra
from ..axes import Axes, Expr, size
from ..dependence import check
from ..program import Equation, Program
from . import contractions, control_flow, elementwise, shapes, slicing
from ._call import RULES, Call, rule
from .constants import constant_axes


def apply(
    algebra: Algebra,
    program: Program,
    equation: Equation,
    axes: list[Axes],
    ambient: Expr,
    descend: Callable[..., list[Axes]],
) -> list[Axes]:
    """The axes of an equation's results."""
    call = Call(algebra, equation, program, axes, ambient, descend)
    function = RULES.get(equation.name)
    if function is None:
        if any(size(e) > 1 for a in axes for e in a):
            algebra.unknown.add(equation.name)
        results = call.fix_all(f"unknown primitive {equation.name!r}")
    elif equation.index in algebra.given_up:
        why = f"no fixed point at {equation.name!r}"
        results = call.fix_all(why)
        if equation.bodies:  # what is inside has axes all the same
            results = function(call)
    else:
        results = function(call)
    return [check(algebra, result, ambient) for result in results]


__all__ = [
    "RULES",
    "Call",
    "apply",
    "constant_axes",
    "contractions",
    "control_flow",
    "elementwise",
    "rule",
    "shapes",
    "slicing",
]
