"""Of which degree a value is in a parameter: what the sizes of parameters do to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from .program import Equation, Operand
from .views import CASTS, SHAPES

SUMS = {"add", "add_any", "sub"}
CONTRACTIONS = {"dot_general", "conv_general_dilated"}
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

    def of(self, value: Operand, leaf: Operand) -> int | None:
        """k where c times the parameter is c^k times the value, for all c > 0; None if none."""
        if (value, leaf) not in self.known:
            self.known[value, leaf] = self._of(value, leaf)
        return self.known[value, leaf]

    def _of(self, value: Operand, leaf: Operand) -> int | None:
        if value == leaf:
            return 1
        if leaf not in self.cone(value):
            return 0
        equation = self.producers.get(value)
        if equation is None:
            return None
        degrees = [self.of(o, leaf) for o in equation.inputs]
        found = [d for d in degrees if d is not None]
        if len(found) < len(degrees):
            return None
        name = equation.name
        if not jnp.issubdtype(equation.params.get("new_dtype", jnp.float32), jnp.inexact):
            return None  # integers are rounded
        if name == "mul" or name in CONTRACTIONS:
            return sum(found)
        if name in ("square", "integer_pow"):
            return equation.params.get("y", 2) * found[0]
        if name in SUMS:
            return found[0] if found[0] == found[1] else None
        return found[0] if name in _LINEAR else None
