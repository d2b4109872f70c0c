"""What each leaf is for, found from what the program does with it.

A leaf that data are contracted with is a weight, one that multiplies data element by element a
scale, one that is added to data a bias, whatever was done to it before with other parameters:
γ / √(v + ε) · h scales h by γ, β − µ · γ / √(v + ε) adds β. Statistics of normalisations are found
in `normalisation.py`. A leaf that serves for two of these, or for anything else, is "other".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp

from .layers import CONTRACTIONS, VIEWS
from .normalisation import Normalisations
from .program import Constant, Equation, Operand, Program, scan_counts

_SUMS = {"add", "add_any", "sub"}
_PRODUCTS = {"mul", "div", "dot_general"}
_NONE: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True)
class _Parts:
    """The leaves that are factors of a value, and those that are terms of it, by number."""

    factors: frozenset[int] = _NONE
    terms: frozenset[int] = _NONE
    whole: frozenset[int] = _NONE  # those that went into it in any way


def roles(program: Program, n_leaves: int, normalised: Normalisations) -> tuple[str, ...]:
    """The role of each of the first `n_leaves` inputs of a program."""
    _, uses = _visited(program, n_leaves)
    inexact = [jnp.issubdtype(program.avals[v].dtype, jnp.inexact) for v in program.inputs]
    out = [next(iter(u)) if len(u) == 1 and inexact[i] else "other" for i, u in uses.items()]
    for n in normalised.found:
        out[n.mean.leaf], out[n.variance.leaf] = "mean", "variance"
    return tuple(out)


def made_of(program: Program, n_leaves: int) -> dict[int, frozenset[int]]:
    """Value → numbers of the leaves that went into it, of the values made of parameters alone."""
    return {value: p.whole for value, p in _visited(program, n_leaves)[0].items()}


def _visited(program: Program, n_leaves: int) -> tuple[dict[int, _Parts], dict[int, set[str]]]:
    """(The parts of each value made of parameters alone, leaf → what it is used for)."""
    one = {i: frozenset({i}) for i in range(n_leaves)}
    parts = {v: _Parts(one[i], one[i], one[i]) for i, v in enumerate(program.inputs[:n_leaves])}
    uses: dict[int, set[str]] = {i: set() for i in range(n_leaves)}
    _visit(program, parts, uses)
    return parts, uses


def _visit(program: Program, parts: dict[int, _Parts], uses: Mapping[int, set[str]]) -> None:
    for equation in program.equations:
        known = [_of(parts, o) for o in equation.inputs]
        if all(p is not None for p in known):
            together = _combined(equation, [p for p in known if p is not None])
            parts.update(dict.fromkeys(equation.outputs, together))
        else:
            _use(equation, known, uses)
        if equation.name == "scan":
            body = equation.bodies[0]
            n_const, n_carry = scan_counts(program, equation)
            for i, (p, inner) in enumerate(zip(known, body.inputs, strict=True)):
                if p is not None and not n_const <= i < n_const + n_carry:
                    parts[inner] = p
            _visit(body, parts, uses)


def _of(parts: Mapping[int, _Parts], operand: Operand) -> _Parts | None:
    """None for what depends on data."""
    return _Parts() if isinstance(operand, Constant) else parts.get(operand)


def _combined(equation: Equation, known: list[_Parts]) -> _Parts:
    """A value made of parameters alone."""
    whole = _NONE.union(*(p.whole for p in known))
    first, name = known[0] if known else _Parts(), equation.name
    if name in VIEWS or name == "neg":
        return dataclasses.replace(first, whole=whole)
    if name in _PRODUCTS:
        factors = first.factors if name == "div" else first.factors | known[1].factors
        constant = not first.whole or not known[1].whole
        return _Parts(factors, first.terms | known[1].terms if constant else _NONE, whole)
    if name in _SUMS:
        constant = not first.whole or not known[1].whole  # 1 + γ is a scale as γ is
        factors = first.factors | known[1].factors if constant else _NONE
        return _Parts(factors, first.terms | known[1].terms, whole)
    return _Parts(whole=whole)


def _use(equation: Equation, known: list[_Parts | None], uses: Mapping[int, set[str]]) -> None:
    """An equation that data enter."""
    name = equation.name
    for i, p in enumerate(known):
        if p is None or (name == "scan"):  # its body is visited
            continue
        role, leaves = "other", p.whole
        if name in CONTRACTIONS and i < 2:
            role, leaves = "weight", p.factors
        elif name in ("mul", "div"):
            role, leaves = "scale", p.factors
        elif name in _SUMS:
            role, leaves = "bias", p.terms
        for leaf in leaves:
            uses[leaf].add(role)


__all__ = ["made_of", "roles"]
