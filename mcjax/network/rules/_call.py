"""What a rule sees and how it is registered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ..algebra import Algebra
from ..axes import Axes, Expr
from ..program import Equation, Program
from ..ties import Ties


@dataclasses.dataclass(frozen=True)
class Named:
    """What the integers of a value name.

    - `columns`: for each position on the last axis the axis named (None: plain numbers), or only
      one for all of them
    - `stage`: `"index"`; `"negative"` is `index < 0`, false everywhere; `"wrapped"` is
      `index + n`, which is chosen only where the index is negative
    """

    columns: tuple[Expr | None, ...]
    stage: str = "index"


@dataclasses.dataclass
class Call:
    """One application of a primitive: what a rule needs to know.

    - `named`: for each operand the units that its integers name, if any; `names`: a rule's answer
      for its results
    - `ties`: which entries can be equal
    """

    algebra: Algebra
    equation: Equation
    program: Program
    axes: list[Axes]
    ambient: Expr
    descend: Callable[..., list[Axes]]
    named: list[Named | None]
    ties: Ties
    names: dict[int, Named] = dataclasses.field(default_factory=dict)

    @property
    def params(self):
        return self.equation.params

    def shape(self, i: int) -> tuple[int, ...]:
        return self.program.shape(self.equation.inputs[i])

    def out_shape(self, i: int = 0) -> tuple[int, ...]:
        return self.program.shape(self.equation.outputs[i])

    def new(self, dim: int, n: int, why: str, out: int = 0) -> Expr:
        """The positions of a result's axis, as an identity of their own."""
        return self.algebra.fixed((self.equation.index, out, dim), n, why)

    def fix_all(self, why: str) -> list[Axes]:
        for axes in self.axes:
            for expr in axes:
                self.algebra.fix(expr, why)
        return [
            tuple(self.new(d, n, why, i) for d, n in enumerate(self.out_shape(i)))
            for i in range(len(self.equation.outputs))
        ]

    def mix(self, expr: Expr, dim: int, n: int, why: str, out: int = 0) -> Expr:
        """The primitive mixes positions along this axis: fixed, and no longer the same index."""
        self.algebra.fix(expr, why)
        return self.new(dim, n, why, out)


Rule = Callable[[Call], list[Axes]]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register
