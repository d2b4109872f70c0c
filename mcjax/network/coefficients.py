"""Polynomials in what a program computes from parameters alone.

The factors are leaves, square roots of leaves, and other values as they are; each knows along which
axes it lies, so that two factors are equal only if they multiply the same elements.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .program import Equation, Program

ROOTS = {"rsqrt", "sqrt", "pow"}
ARITHMETIC = {"add", "add_any", "sub", "mul", "div"}
SAME = {"convert_element_type", "copy", "copy_p", "stop_gradient", "reduce_precision"}
_SHAPES = {"reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim"}
# Terms beyond which a polynomial is no longer expanded.
MAX_TERMS = 16


@dataclasses.dataclass(frozen=True)
class Factor:
    """A value computed from parameters alone, as a factor of coefficients.

    - `layout`: for each axis of the product, the axis of the value that lies there
    - `root`: () for the value itself, else what makes it √(c · value + ε) + …
    """

    source: int
    layout: tuple[int | None, ...]
    root: tuple[Any, ...] = ()


Monomial = frozenset[tuple[Factor, int]]
Polynomial = dict[Monomial, float]
ONE: Monomial = frozenset()


def atom(program: Program, value: int) -> Polynomial:
    shape = program.shape(value)
    layout = tuple(d if n > 1 else None for d, n in enumerate(shape))
    return {frozenset({(Factor(value, layout), 1)}): 1.0}


def add(p: Polynomial, q: Polynomial, sign: float = 1.0) -> Polynomial:
    out = dict(p)
    for m, c in q.items():
        out[m] = out.get(m, 0.0) + sign * c
    return {m: c for m, c in out.items() if c}


def times(m: Monomial, n: Monomial, sign: int = 1) -> Monomial:
    powers = dict(m)
    for factor, power in n:
        powers[factor] = powers.get(factor, 0) + sign * power
    return frozenset((f, k) for f, k in powers.items() if k)


def multiply(p: Polynomial, q: Polynomial) -> Polynomial:
    out: Polynomial = {}
    for m, a in p.items():
        out = add(out, {times(m, n): a * b for n, b in q.items()})
    return out


def inverse(p: Polynomial) -> Polynomial | None:
    if len(p) == 1:
        ((m, c),) = p.items()
        return {times(ONE, m, -1): 1 / c}
    rest = [(m, c) for m, c in p.items() if m]
    if len(p) == 2 and len(rest) == 1 and len(rest[0][0]) == 1:  # √v + ε
        (((factor, power),), c), offset = rest[0], p[ONE]
        if factor.root and power == 1:
            shifted = dataclasses.replace(factor, root=(*factor.root, c, offset))
            return {frozenset({(shifted, -1)}): 1.0}
    return None


def ratio(p: Polynomial, q: Polynomial) -> tuple[Monomial, float] | None:
    """(k, c) with p = c · k · q, for a monomial k."""
    if len(p) != len(q) or not p:
        return None
    m, a = next(iter(p.items()))
    for n, b in q.items():
        k, c = times(m, n, -1), a / b
        scaled = {times(k, i): c * v for i, v in q.items()}
        if scaled.keys() == p.keys() and all(np.isclose(scaled[i], p[i]) for i in p):
            return k, c
    return None


def factors(p: Polynomial) -> Iterable[tuple[Factor, int]]:
    return (item for m in p for item in m)


def constant(value: Any) -> Polynomial:
    """What is known at trace time: a number, or one factor."""
    type_ = jax.typeof(value)
    real = jnp.issubdtype(type_.dtype, jnp.floating) or jnp.issubdtype(type_.dtype, jnp.integer)
    if type_.size == 1 and real and _check.is_concrete(value):
        number = float(np.asarray(value).reshape(()))
        return {ONE: number} if number else {}
    layout = tuple(d if n > 1 else None for d, n in enumerate(type_.shape))
    return {frozenset({(Factor(-1 - id(value), layout), 1)}): 1.0}


def coefficient(
    program: Program, equation: Equation, terms: Sequence[Polynomial], leaves: Collection[int]
) -> Polynomial | None:
    """What an equation makes of polynomials; None if that is none (of not too many terms)."""
    result = _coefficient(program, equation, terms, leaves)
    return result if result is not None and len(result) <= MAX_TERMS else None


def _coefficient(
    program: Program, equation: Equation, terms: Sequence[Polynomial], leaves: Collection[int]
) -> Polynomial | None:
    name = equation.name
    if name in SAME:
        return terms[0]
    if name in _SHAPES:
        return moved(program, equation, terms[0])
    if name in ARITHMETIC:
        rank = len(program.shape(equation.outputs[0]))
        return combined(name, *(lifted(p, rank) for p in terms))
    if name == "neg":
        return add({}, terms[0], -1.0)
    if name == "square":
        return multiply(terms[0], terms[0])
    if name == "integer_pow" and equation.params["y"] == -1:
        return inverse(terms[0])
    if name in ROOTS:
        power = {"rsqrt": -0.5, "sqrt": 0.5}.get(name)
        if power is None:
            power = terms[1].get(ONE, 0.0) if len(terms[1]) == 1 else 0.0
        return _root(terms[0], power, leaves) if abs(power) == 0.5 else None
    return None


def _root(p: Polynomial, power: float, leaves: Collection[int]) -> Polynomial | None:
    """(c · leaf + ε) to the power ½ or −½."""
    rest = [(m, c) for m, c in p.items() if m]
    if len(rest) != 1:
        return None
    (monomial, c), epsilon = rest[0], p.get(ONE, 0.0)
    units = [(f, k) for f, k in monomial if any(d is not None for d in f.layout)]
    units = units or [(f, k) for f, k in monomial if f.source in leaves]
    if len(units) != 1 or units[0][1] != 1 or units[0][0].root:
        return None
    root = (c, monomial - {units[0]}, epsilon)
    return {frozenset({(dataclasses.replace(units[0][0], root=root), int(2 * power))}): 1.0}


def combined(name: str, p: Polynomial, q: Polynomial) -> Polynomial | None:
    if name == "mul":
        return multiply(p, q)
    if name == "div":
        over = inverse(q)
        return None if over is None else multiply(p, over)
    return add(p, q, -1.0 if name == "sub" else 1.0)


def relaid(p: Polynomial, layout) -> Polynomial:
    """The polynomial with the layout of every factor changed."""
    return {
        frozenset((dataclasses.replace(f, layout=layout(f.layout)), k) for f, k in m): c
        for m, c in p.items()
    }


def lifted(p: Polynomial, rank: int) -> Polynomial:
    """Scalars as arrays of a rank."""
    return relaid(p, lambda old: old if old else (None,) * rank)


def sliced_polynomial(p: Polynomial) -> Polynomial:
    return relaid(p, lambda old: old[1:])


def moved(program: Program, equation: Equation, p: Polynomial) -> Polynomial | None:
    """A view of axes: none of them may be split or merged."""
    shape, new = program.shape(equation.inputs[0]), program.shape(equation.outputs[0])
    name = equation.name
    if name == "transpose":
        order = tuple(equation.params["permutation"])
        return relaid(p, lambda old: tuple(old[i] for i in order))
    if name == "broadcast_in_dim":
        at = {d: i for i, d in enumerate(equation.params["broadcast_dimensions"])}
        return relaid(p, lambda old: tuple(old[at[d]] if d in at else None
                                            for d in range(len(new))))  # fmt: skip
    kept = [i for i, n in enumerate(shape) if n != 1]
    if [shape[i] for i in kept] != [n for n in new if n != 1]:
        return None

    def layout(old: tuple[int | None, ...]) -> tuple[int | None, ...]:
        rest = iter(kept)
        return tuple(old[next(rest)] if n != 1 else None for n in new)

    return relaid(p, layout)
