"""What element-wise operations require: one rule for the unknowns at one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from .systems import ANY, NONE, Constraints

Rule = Callable[[Constraints, Sequence[int]], int]

LINEAR = {
    "add", "add_any", "sub", "neg", "copy", "copy_p", "convert_element_type", "reduce_precision",
    "stop_gradient", "device_put", "sharding_constraint", "pvary", "real", "imag", "conj",
    "complex",
}  # fmt: skip
ODD = {"tanh", "sin", "tan", "erf", "erf_inv", "sinh", "asinh", "asin", "atan", "atanh", "round"}
EVEN = {"cos", "cosh", "bessel_i0e"}
ORDER = {"lt", "le", "gt", "ge", "lt_to", "le_to"}


def linear(c: Constraints, unknowns: Sequence[int]) -> int:
    """Sums: all transform alike; what does not hold the units, not at all."""
    held = [a for a in unknowns if a > NONE]
    if not held:
        return NONE
    if NONE in unknowns:
        for a in held:
            c.beside_constant(a)
    for a in held[1:]:
        c.same(held[0], a)
    return held[0]


def extreme(c: Constraints, unknowns: Sequence[int]) -> int:
    """The larger, or the smaller: alike for positive scalings only."""
    for a in unknowns:
        if a > NONE:
            c.kill(a)
            c.no_sign(a)
    return linear(c, unknowns)


def select(c: Constraints, unknowns: Sequence[int]) -> int:
    """One of the others, by the first."""
    which, *cases = unknowns
    if which > NONE:
        c.nothing(which)
    return linear(c, cases)


def compare(c: Constraints, unknowns: Sequence[int]) -> int:
    """The order of two values that are scaled alike, or of one and zero."""
    extreme(c, unknowns)
    return NONE


def equal(c: Constraints, unknowns: Sequence[int]) -> int:
    finite(c, unknowns)
    linear(c, unknowns)
    return NONE


def odd(c: Constraints, unknowns: Sequence[int]) -> int:
    (a,) = unknowns
    if a > NONE:
        c.kill(a)
        c.no_scaling(a)
    return max(a, NONE)


def even(c: Constraints, unknowns: Sequence[int]) -> int:
    odd(c, unknowns)
    return NONE


def nothing(c: Constraints, unknowns: Sequence[int]) -> int:
    for a in unknowns:
        if a > NONE:
            c.nothing(a)
    return NONE


def product(c: Constraints, unknowns: Sequence[int]) -> int:
    a, b = unknowns
    if ANY in (a, b) or a == NONE or b == NONE:
        return NONE if ANY in (a, b) else max(a, b)
    return c.product(a, b)


def quotient(c: Constraints, unknowns: Sequence[int]) -> int:
    a, b = unknowns
    if b in (NONE, ANY):
        return max(a, NONE)
    return c.inverse(b) if a in (NONE, ANY) else c.quotient(a, b)


def power(k: Fraction, sign: int | None) -> Rule:
    def rule(c: Constraints, unknowns: Sequence[int]) -> int:
        a = unknowns[0]
        return c.power(a, k, sign) if a > NONE else NONE

    return rule


def sign(c: Constraints, unknowns: Sequence[int]) -> int:
    (a,) = unknowns
    return c.power(a, 0, 1) if a > NONE else NONE


def finite(c: Constraints, unknowns: Sequence[int]) -> int:
    for a in unknowns:
        if a > NONE:
            c.kill(a)
    return NONE


_NAMED: dict[str, Rule] = {
    "mul": product,
    "div": quotient,
    "max": extreme,
    "min": extreme,
    "clamp": extreme,
    "select_n": select,
    "abs": power(Fraction(1), 0),
    "sign": sign,
    "square": power(Fraction(2), 0),
    "sqrt": power(Fraction(1, 2), None),
    "rsqrt": power(Fraction(-1, 2), None),
    "cbrt": power(Fraction(1, 3), 1),
    "eq": equal,
    "ne": equal,
    "eq_to": equal,
    "is_finite": finite,
}
_NAMED |= dict.fromkeys(LINEAR, linear) | dict.fromkeys(ORDER, compare)
_NAMED |= dict.fromkeys(ODD, odd) | dict.fromkeys(EVEN, even)

# Operations whose result is zero where all their operands are, or where one is.
_ZERO_OF_ALL = LINEAR | ODD | {"max", "min", "abs", "sign", "square", "sqrt", "cbrt", "clamp"}


def rule_of(name: str, exponent: int | None = None) -> Rule:
    """The rule of an element-wise operation; `exponent` is that of an integer power."""
    if exponent is not None:
        return power(Fraction(exponent), exponent % 2)
    return _NAMED.get(name, nothing)


def zeros(name: str, known: Sequence) -> object:
    """Where the result is zero, from where the operands are (None: nowhere)."""
    if name == "mul":
        given = [z for z in known if z is not None]
        return None if not given else given[0] if len(given) == 1 else given[0] | given[1]
    if name == "div":
        return known[0]
    if name == "select_n":
        known = known[1:]
    elif name not in _ZERO_OF_ALL:
        return None
    if any(z is None for z in known):
        return None
    out = known[0]
    for z in known[1:]:
        out = out & z
    return out


__all__ = ["extreme", "linear", "nothing", "product", "rule_of", "zeros"]
