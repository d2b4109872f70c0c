"""The layers of a network: every contraction of data with a parameter, its bias and its units."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from .axes import Atom, atoms
from .frozen import Analysis
from .program import Constant, Equation, Operand, Program, scan_counts

# Primitives that only show an array in another shape or type.
VIEWS = {
    "reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim", "convert_element_type",
    "copy", "copy_p", "stop_gradient", "slice", "split", "unstack", "reduce_precision",
}  # fmt: skip
# Affine maps of a value, if the other operand comes from parameters alone.
_AFFINE = {"add", "add_any", "sub", "mul", "div"}
# Primitives that contract an array with a weight, and the layers they make.
CONTRACTIONS = {
    "dot_general": "dense",
    "conv_general_dilated": "convolution",
    "gather": "embedding",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Contraction:
    """A contraction as the program knows it: leaves and values by number.

    - `biased`: the output after the bias that directly follows
    - `preactivation`: what the next nonlinearity reads, after batch normalisation if there is any
    """

    equation: Equation
    kind: str
    weight: int
    bias: int | None
    input: int | None
    output: int
    biased: int
    preactivation: int


def contractions(program: Program, leaves: Mapping[int, int]) -> list[Contraction]:
    """Every contraction with exactly one operand that is a view of a parameter leaf.

    **Arguments:**
    - `leaves`: program input → number of the parameter leaf
    """
    finder = _Finder(dict(leaves), consumers(program))
    finder.visit(program)
    return finder.contractions()


class _Finder:
    def __init__(self, source: dict[int, int], users: Mapping[int, list[Equation]]) -> None:
        self.source = source  # value → the leaf it is a view of
        self.parameters = set(source)  # values that depend on parameters alone
        self.found: list[Equation] = []
        self.consumers = users

    def leaf(self, operand: Operand) -> int | None:
        return self.source.get(operand) if isinstance(operand, int) else None

    def known(self, operand: Operand) -> bool:
        """Whether an operand depends on no data."""
        return isinstance(operand, Constant) or operand in self.parameters

    def visit(self, program: Program) -> None:
        for equation in program.equations:
            if all(self.known(o) for o in equation.inputs):
                self.parameters.update(equation.outputs)
            if equation.name in VIEWS and self.leaf(equation.inputs[0]) is not None:
                leaf = self.source[equation.inputs[0]]  # type: ignore[index]
                self.source.update(dict.fromkeys(equation.outputs, leaf))
            if equation.name in CONTRACTIONS:
                self.found.append(equation)
            self._enter(program, equation)

    def _enter(self, program: Program, equation: Equation) -> None:
        if equation.name == "scan":
            n_const, n_carry = scan_counts(program, equation)
            for i, (outer, inner) in enumerate(
                zip(equation.inputs, equation.bodies[0].inputs, strict=True)
            ):
                if n_const <= i < n_const + n_carry:
                    continue
                leaf = self.leaf(outer)
                if leaf is not None:
                    self.source[inner] = leaf
                if self.known(outer):
                    self.parameters.add(inner)
            self.visit(equation.bodies[0])

    def contractions(self) -> list[Contraction]:
        out = []
        for equation in self.found:
            kind = CONTRACTIONS[equation.name]
            weights = [i for i, o in enumerate(equation.inputs[:2]) if self.leaf(o) is not None]
            if kind == "embedding":
                weights = [i for i in weights if i == 0]
            if len(weights) != 1:
                continue
            position = weights[0]
            data = equation.inputs[1 - position]
            output = equation.outputs[0]
            bias, biased = self.bias(output)
            preactivation = affine_end(self.consumers, self.known, biased)
            if kind == "embedding" or not isinstance(data, int):
                data = None
            leaf = self.source[equation.inputs[position]]  # type: ignore[index]
            out.append(Contraction(equation, kind, leaf, bias, data, output, biased, preactivation))
        return out

    def bias(self, value: int) -> tuple[int | None, int]:
        """The leaf first added to a contraction's result, and the sum if nothing is between."""
        current, direct = value, True
        for _ in range(8):
            users = self.consumers.get(current, [])
            sums = [e for e in users if e.name in ("add", "add_any")]
            for equation in sums:
                other = [o for o in equation.inputs if o != current]
                leaf = self.leaf(other[0]) if len(other) == 1 else None
                if leaf is not None:
                    return leaf, equation.outputs[0] if direct else value
            if len(users) != 1:
                break
            if sums:
                direct = False
            elif users[0].name not in ("reshape", "transpose", "convert_element_type", "squeeze"):
                break
            current = users[0].outputs[0]
        return None, value


def consumers(program: Program) -> dict[int, list[Equation]]:
    """Value → the equations that read it, those in the bodies of scans too."""
    found: dict[int, list[Equation]] = {}
    for equation in program.equations:
        for operand in equation.inputs:
            if isinstance(operand, int):
                found.setdefault(operand, []).append(equation)
        if equation.name == "scan":
            found |= consumers(equation.bodies[0])
    return found


def affine_end(
    users: Mapping[int, list[Equation]], known: Callable[[Operand], bool], value: int
) -> int:
    """The last of the affine maps by parameters that follow a value, one after another.

    **Arguments:**
    - `users`: the consumers of each value
    - `known`: whether an operand depends on no data
    """
    while True:
        here = users.get(value, [])
        if len(here) != 1 or here[0].name not in _AFFINE | {"convert_element_type"}:
            return value
        if not all(o == value or known(o) for o in here[0].inputs):
            return value
        value = here[0].outputs[0]


def units(analysis: Analysis, value: int) -> Sequence[Atom]:
    """The free atoms on the axes of a value."""
    found = dict.fromkeys(a for e in analysis.of(value) for a in atoms(e) if not a.fixed)
    return list(found)
