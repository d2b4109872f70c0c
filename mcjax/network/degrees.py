"""Of which degree a value is in a parameter: what the sizes of parameters do to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from .program import Constant, Equation, Operand
from .views import CASTS, SHAPES

SUMS = {"add", "add_any", "sub"}
CONTRACTIONS = {"dot_general", "conv_general_dilated"}
_ADDED, _POWERS = CONTRACTIONS | {"mul"}, {"square", "integer_pow"}
_LINEAR = CASTS | SHAPES | {"neg", "abs", "reduce_sum"}


class Degrees:
    """Degrees of a program's values, by what produces each and the inputs it depends on."""

    def __init__(
        self,
        producers: Mapping[Operand, Equation],
        cone: Callable[[Operand], frozenset[Operand]],
    ) -> None:
        self.producers = producers
        self.cone = cone
        self.known: dict[tuple[Operand, Operand], int | None] = {}

    def terms(self, value: Operand) -> list[Operand]:
        """What a sum is of; none if it has a value twice, which may cancel."""
        terms: list[Operand] = []
        todo, seen = [value], {value}
        while todo:
            current = todo.pop()
            equation = self.producers.get(current)
            if equation is None or equation.name not in SUMS | {"neg"}:
                terms.append(current)
                continue
            values = [o for o in equation.inputs if not isinstance(o, Constant)]
            if len({*values}) < len(values) or not seen.isdisjoint(values):
                return []
            seen.update(values)
            todo.extend(reversed(equation.inputs))
        return terms

    def of(self, value: Operand, leaf: Operand) -> int | None:
        """k where c times the parameter is c^k times the value, for all c > 0; None if none."""
        if value == leaf:
            return 1
        if leaf not in self.cone(value):
            return 0
        if (value, leaf) not in self.known:
            equation = self.producers.get(value)
            self.known[value, leaf] = None if equation is None else self._through(equation, leaf)
        return self.known[value, leaf]

    def _through(self, equation: Equation, leaf: Operand) -> int | None:
        name, params = equation.name, equation.params
        rounded = not jnp.issubdtype(params.get("new_dtype", jnp.float32), jnp.inexact)
        if rounded or name not in _ADDED | _POWERS | SUMS | _LINEAR:
            return None
        found: list[int] = []
        for operand in reversed(equation.inputs):  # a residual stream, which goes far back, last
            degree = self.of(operand, leaf)
            if degree is None:
                return None
            found.append(degree)
        if name in _ADDED:
            return sum(found)
        if name in _POWERS:
            return params.get("y", 2) * found[0]
        return found[0] if len(set(found)) == 1 else None


def alone(degrees: list[int | None], which: int) -> bool:
    """Whether all degrees are known, and one of them is there once."""
    return None not in degrees and degrees.count(degrees[which]) == 1
