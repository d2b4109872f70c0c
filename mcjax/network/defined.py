"""Whether the largest of some entries is one: none are equal, and none is NaN or infinite on the
way, of which the first would be told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .program import Constant, Equation, Operand
from .ties import Ties


def has_no_ties(ties: Ties, value: Operand, dim: int) -> bool:
    """Whether entries along `dim` differ, and are defined, almost surely.

    Programs may be deeper than Python's stack: there all values are asked about first, in the
    program's order. What is too deep even then is answered by no.
    """
    for ready in (False, True):
        with contextlib.suppress(RecursionError):
            for earlier in sorted(v for v in ties.producers if isinstance(v, int) and ready):
                ties.live(earlier)
                ties.moderate(earlier)
            return ties.distinct(value, dim) and is_defined(ties, value)
        ties.forget()
    return False


def is_defined(ties: Ties, value: Operand) -> bool:
    """Whether all that a value is computed from is finite, for almost all parameters and inputs.

    Roots, logarithms, powers and quotients are asked for their domains. What depends on parameters
    alone is taken to be in them: a variance that is a parameter is not below zero.
    """
    todo, seen = [value], {value}
    while todo:
        current = todo.pop()
        if isinstance(current, Constant):
            continue
        if current in ties.outside:
            _, outer, after = ties.outside[current]
            before = [outer] if after is None else [outer, after]
        elif (equation := ties.producers.get(current)) is None:
            continue
        elif equation.name in _DOMAINS and not _DOMAINS[equation.name](ties, equation):
            return False
        elif equation.name == "scan":
            before = [*equation.inputs, *equation.bodies[0].outputs]
        else:
            before = list(equation.inputs)
        todo.extend(o for o in before if o not in seen)
        seen.update(before)
    return True


def _of_parameters(ties: Ties, value: Operand) -> bool:
    return ties.cone(value) <= ties.leaves.keys()


def _not_zero(ties: Ties, equation: Equation) -> bool:
    return ties.live(equation.inputs[-1])


def _not_negative(ties: Ties, equation: Equation) -> bool:
    value = equation.inputs[0]
    return ties.not_negative(value) or _of_parameters(ties, value)


def _positive(ties: Ties, equation: Equation) -> bool:
    return _not_negative(ties, equation) and _not_zero(ties, equation)


def _power(ties: Ties, equation: Equation) -> bool:
    base, exponent = equation.inputs
    if isinstance(exponent, Constant):
        numbers = np.asarray(exponent.value)
        whole = bool(np.all(numbers % 1 == 0)) or _not_negative(ties, equation)
        return whole and (bool(np.all(numbers >= 0)) or ties.live(base))
    return ties.live(base) and _not_negative(ties, equation)


def _integer_power(ties: Ties, equation: Equation) -> bool:
    return equation.params["y"] >= 0 or _not_zero(ties, equation)


_DOMAINS: dict[str, Callable[[Ties, Equation], Any]] = {
    "div": _not_zero, "integer_pow": _integer_power, "log": _positive, "log1p": _not_negative,
    "pow": _power, "rsqrt": _positive, "sqrt": _not_negative,
}  # fmt: skip
