"""Scans, loops and branches."""

from __future__ import annotations

from ..axes import Axes
from ..dependence import check
from ..program import scan_counts
from ._call import Call, rule


@rule("scan")
def scan(call: Call) -> list[Axes]:
    p, algebra = call.params, call.algebra
    n_const, n_carry = scan_counts(call.program, call.equation)
    body = call.equation.bodies[0]
    index = algebra.fixed((call.equation.index, "scan"), p["length"], "scanned axis")
    for axes in call.axes[n_const + n_carry :]:
        algebra.fix(axes[0], "scanned axis")
        index = algebra.join(index, axes[0])
    index = algebra.resolve(index)
    carry = _carry(call, n_const, n_carry)
    slices = [axes[1:] for axes in call.axes[n_const + n_carry :]]
    inputs = [*call.axes[:n_const], *carry, *slices]
    outputs = call.descend(body, inputs, (*call.ambient, *index))
    _close_carry(call, carry, outputs[:n_carry])
    ys = [(index, *axes) for axes in outputs[n_carry:]]
    return [tuple(map(algebra.resolve, axes)) for axes in (*carry, *ys)]


@rule("while")
def while_loop(call: Call) -> list[Axes]:
    n_cond, n_body = call.params["cond_nconsts"], call.params["body_nconsts"]
    condition, body = call.equation.bodies
    first = n_cond + n_body
    carry = _carry(call, first, len(call.axes) - first)
    call.descend(condition, [*call.axes[:n_cond], *carry], call.ambient)
    outputs = call.descend(body, [*call.axes[n_cond:first], *carry], call.ambient)
    _close_carry(call, carry, outputs)
    return [tuple(map(call.algebra.resolve, axes)) for axes in carry]


def _carry(call: Call, first: int, n: int) -> list[Axes]:
    """The carry as known so far: the initial value joined with earlier sweeps' results."""
    known = call.algebra.carries.get(call.equation.index)
    initial = call.axes[first : first + n]
    if known is None:
        return [check(call.algebra, axes, call.ambient) for axes in initial]
    joined = [
        tuple(call.algebra.join(a, b) for a, b in zip(x, y, strict=True))
        for x, y in zip(initial, known, strict=True)
    ]
    # Iterations follow one another: the carry may not depend on the index of the loop.
    return [check(call.algebra, axes, call.ambient) for axes in joined]


def _close_carry(call: Call, carry: list[Axes], results: list[Axes]) -> None:
    algebra = call.algebra
    joined = [
        tuple(algebra.join(a, b) for a, b in zip(x, y, strict=True))
        for x, y in zip(carry, results, strict=True)
    ]
    joined = [check(algebra, axes, call.ambient) for axes in joined]
    if joined != [tuple(map(algebra.resolve, axes)) for axes in carry]:
        algebra.changed = True
    algebra.carries[call.equation.index] = joined


@rule("cond")
def cond(call: Call) -> list[Axes]:
    results = [call.descend(body, call.axes[1:], call.ambient) for body in call.equation.bodies]
    return [
        tuple(call.algebra.join_all(list(exprs)) for exprs in zip(*axes, strict=True))
        for axes in zip(*results, strict=True)
    ]
