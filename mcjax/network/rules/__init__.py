"""What each primitive does to the axes of its operands: one rule a primitive.

A rule sees the axes of the operands, joins or fixes what the primitive ties together or mixes,
and returns the axes of the results. A primitive without a rule fixes everything it touches:
conservative is allowed, wrong never.
"""

from __future__ import annotations

from ..axes import Axes, size
from ..dependence import check
from . import contractions, control_flow, elementwise, indices, shapes, slicing
from ._call import RULES, Call, rule
from .constants import constant_axes


def apply(call: Call) -> tuple[list[Axes], dict[int, indices.Named]]:
    """The axes of an equation's results, and what units their integers name."""
    algebra, equation = call.algebra, call.equation
    function = RULES.get(equation.name)
    if function is None and any(size(e) > 1 for a in call.axes for e in a):
        algebra.unknown.add(equation.name)
    given_up = equation.index in algebra.given_up
    if given_up:
        algebra.unknown.add(f"{equation.name} (no fixed point)")
    results = None
    if function is None or given_up:
        indices.forget(call)
        why = f"no fixed point at {equation.name!r}"
        results = call.fix_all(why if given_up else f"unknown primitive {equation.name!r}")
    elif any(call.named):
        results = indices.follow(call)
    if function is not None and (results is None or equation.bodies):
        results = function(call)  # what is inside a loop has axes in any case
    out = []
    for i, result in enumerate(results or []):
        axes = check(algebra, result, call.ambient)
        if i in call.names:  # what the integers name may depend on the array's axes, as an axis may
            units = [e for e in call.names[i].columns if e]
            axes = check(algebra, (*axes, *units), call.ambient)[: len(axes)]
        out.append(axes)
    return out, call.names


__all__ = [
    "RULES",
    "Call",
    "apply",
    "constant_axes",
    "contractions",
    "control_flow",
    "elementwise",
    "indices",
    "rule",
    "shapes",
    "slicing",
]
