"""The fixed point: apply every rule to the whole program until nothing changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from .algebra import Algebra
from .axes import Axes, Expr, atoms
from .dependence import break_cycles, check
from .program import Constant, Operand, Program
from .rules import Call, apply, constant_axes
from .rules.indices import Named
from .ties import Ties

# Models settle in two or three sweeps, random programs in up to thirteen. An operation that has
# not settled by then is taken for one that is not understood; the others keep what they have.
_PATIENCE = 30
_MAX_SWEEPS = 90


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """Axes of every value of a program, and the scans around each value, as an algebra has them.

    `frozen.py` makes an `Analysis` of it, which no longer needs the algebra.
    """

    algebra: Algebra
    program: Program
    axes: Mapping[int, Axes]
    ambient: Mapping[int, Expr]
    sweeps: int


class _Sweep:
    """One pass over the equations: the axes of every value, from those of the inputs."""

    def __init__(self, algebra: Algebra, ties: Ties) -> None:
        self.algebra = algebra
        self.ties = ties
        self.named: dict[Operand, Named] = {}  # what integers name
        self.axes: dict[int, Axes] = {}
        self.ambient: dict[int, Expr] = {}
        self.unsettled: set[int] = set()  # equations that found more

    def run(self, program: Program, inputs: Sequence[Axes], ambient: Expr) -> list[Axes]:
        for value, axes in zip(program.inputs, inputs, strict=True):
            self.axes[value] = check(self.algebra, axes, ambient)
            self.ambient[value] = ambient
        for equation in program.equations:
            operands = [self.read(o, (equation.index, i)) for i, o in enumerate(equation.inputs)]
            before, self.algebra.changed = self.algebra.changed, False
            named = [self.named.get(o) for o in equation.inputs]
            results, names = apply(
                Call(
                    self.algebra,
                    equation,
                    program,
                    operands,
                    ambient,
                    self.run,
                    named,
                    self.ties,
                )
            )
            self.named |= {equation.outputs[i]: n for i, n in names.items()}
            if self.algebra.changed:
                self.unsettled.add(equation.index)
            self.algebra.changed |= before
            for value, axes in zip(equation.outputs, results, strict=True):
                self.axes[value] = axes
                self.ambient[value] = ambient
        for output in program.outputs:
            for expr in self.named[output].columns if output in self.named else ():
                self.algebra.fix(expr or (), "its indices leave the program")
        return [self.read(o, (program.inputs, i)) for i, o in enumerate(program.outputs)]

    def read(self, operand: Operand, key: object) -> Axes:
        if isinstance(operand, Constant):
            return constant_axes(self.algebra, operand, key)
        return tuple(map(self.algebra.resolve, self.axes[operand]))


def analyse(
    algebra: Algebra, program: Program, parameters: Sequence[Axes], data: Sequence[Axes]
) -> Found:
    """Refine the axes of the inputs until every equation holds; outputs are fixed.

    Soundness rests on the last sweep, which changed nothing: it has checked every equation
    against the final state.
    """
    algebra.carries.clear()
    inputs = [*parameters, *data]
    ties = Ties(program, len(parameters))
    for sweeps in range(1, _MAX_SWEEPS + 1):
        algebra.changed = False
        sweep = _Sweep(algebra, ties)
        outputs = sweep.run(program, [tuple(map(algebra.resolve, a)) for a in inputs], ())
        for axes in outputs:
            for expr in axes:
                algebra.fix(expr, "an output of the model")
        if sweeps >= _PATIENCE:
            algebra.given_up |= sweep.unsettled
        if not algebra.changed and not break_cycles(algebra):
            return Found(algebra, program, sweep.axes, sweep.ambient, sweeps)
    for axes in inputs:  # no fixed point: nothing is claimed
        for expr in axes:
            algebra.fix(expr, f"no fixed point after {_MAX_SWEEPS} sweeps")
    return Found(algebra, program, sweep.axes, sweep.ambient, _MAX_SWEEPS)


def analyse_used(
    algebra: Algebra, program: Program, parameters: Sequence[Axes], data: Sequence[Axes]
) -> Found:
    """As `analyse`, with parameters, and entries of them, that the program does not use fixed.

    Whatever permuted the rows of a table of positions beyond those that an input has would leave
    the function as it is: symmetries without a meaning, as many as there are rows.
    """
    leaves = dict(zip(program.inputs, parameters, strict=False))
    used = {o for e in program.equations for o in e.inputs} | set(program.outputs)
    for value, axes in leaves.items():
        for expr in axes if value not in used else ():
            algebra.fix(expr, "a parameter that the function does not use")
    found = analyse(algebra, program, parameters, data)
    algebra.changed = False
    for value, axes in leaves.items():
        slices = _slices(program, value)
        held = {a for v in slices for e in found.axes[v] for a in atoms(algebra.resolve(e))}
        for atom in {a for e in axes for a in atoms(algebra.resolve(e))} if slices else ():
            if not atom.fixed and atom not in held:
                algebra.fix((atom,), "entries of a parameter that the function does not use")
    return analyse(algebra, program, parameters, data) if algebra.changed else found


def _slices(program: Program, value: int) -> list[int]:
    """The slices of a value, where nothing else uses it."""
    readers = [e for e in program.equations if value in e.inputs]
    found: list[int] = []
    for equation in readers:
        if equation.name == "slice":
            found += equation.outputs
        elif equation.name == "convert_element_type" and (
            inner := _slices(program, equation.outputs[0])
        ):
            found += inner
        else:
            return []
    return [] if value in program.outputs else found


__all__ = ["Found", "analyse", "analyse_used"]
