"""Why what reads a scale cannot take it up: what a program does with it."""

from __future__ import annotations

from collections.abc import Iterator

from ..layers import VIEWS, Contraction, consumers
from ..program import Equation, Operand, Program
from ..sides import Origins
from ..structure import Structure
from ..taps import observed

_SUMS = {"add", "add_any", "sub"}


class Flow:
    """The program of a network, followed from its leaves on."""

    def __init__(self, network: Structure) -> None:
        self.network = network
        self.program = network.analysis.program
        self.readers = consumers(self.program)
        self.data = observed(self.program, len(network.leaf_types)).data
        self.origins = Origins(self.program)
        self.leaving = set(_outputs(self.program))
        self.layers = {c.equation.index: c for c in (n.contraction for n in network.layers)}
        self.inside: dict[int, list[int]] = {}
        for inner, (outer, _) in self.origins.scanned.items():
            if isinstance(outer, int):
                self.inside.setdefault(outer, []).append(inner)

    def reason(self, leaf: int) -> str:
        """Why what reads a scale cannot take it up."""
        stops, tied = self._read(leaf)[1], self.tied(leaf)
        if stops:
            return f"not only weights read it: {'; '.join(dict.fromkeys(stops))}"
        if tied:
            names = dict.fromkeys(self.network.leaf_names[c.weight] for c in tied)
            return f"{', '.join(names)} reads it, and is used elsewhere too (untie=True)"
        return "no scaling of the weights that read it takes it up"

    def tied(self, leaf: int) -> list[Contraction]:
        """The layers that read a scale by a weight which others use, too, if weights alone do."""
        read, stops = self._read(leaf)
        used = [c.weight for c in self.layers.values()]
        here = [c.weight for c in read]
        return [c for c in read if used.count(c.weight) > here.count(c.weight) and not stops]

    def _read(self, leaf: int) -> tuple[list[Contraction], list[str]]:
        """(layers that are applied to what a scale multiplies, what else reads it)."""
        layers, stops = [], []
        pending, seen = [self.program.inputs[leaf]], set()
        while pending:
            value = pending.pop()
            if value in seen:
                continue
            seen.add(value)
            pending += self.inside.get(value, [])
            if value in self.leaving:
                stops.append("it leaves the program, or a loop in it")
            for equation in self.readers.get(value, []):
                layer = self.layers.get(equation.index)
                if layer is not None and layer.input == value:
                    layers.append(layer)
                elif self._passes(equation, value):
                    pending += equation.outputs
                elif equation.name in _SUMS:
                    stops.append("it is added to other data")
                elif equation.name != "scan" or value not in self.inside:
                    stops.append(equation.name)
        return layers, stops

    def _passes(self, equation: Equation, value: int) -> bool:
        """Whether an operation keeps a factor of its operand."""
        others = [o for o in equation.inputs if o != value]
        if equation.name in VIEWS or equation.name == "neg":
            return True
        if equation.name == "mul" or (equation.name == "div" and equation.inputs[0] == value):
            return len(others) == 1
        return equation.name in _SUMS and len(others) == 1 and others[0] not in self.data


def _outputs(program: Program) -> Iterator[Operand]:
    """The outputs of a program and of the bodies in it."""
    yield from program.outputs
    for equation in program.equations:
        for body in equation.bodies:
            yield from _outputs(body)


__all__ = ["Flow"]
