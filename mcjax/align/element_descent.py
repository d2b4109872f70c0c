"""The search of weight matching over permutations, signs and rotations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from .._threads import one_if_small
from ..network.axes import Atom
from ..network.elements import Key, apply_to, multiplied, passed
from ..network.network import Network
from ..transport.elements import ElementProblem, ElementSolution
from ..transport.solution import LOCAL, OPTIMAL, worst
from ..transport.solvers import Exact, Solver
from .arrays import Arrays
from .descent import GAIN, NOTHING, Descent
from .element_products import ElementProducts, Kinds
from .parameters import move

_UNMOVED = 1e-12
# What counts as a gain between networks that are near, relative to their squared distance.
_FINE = 1e-3


class ElementDescent(Descent):
    """As `Descent`, over the compact part of every group: permutations, signs and rotations.

    - `elements`: factor → element so far, after the permutations `found`
    - `fine`: whether gains count that are small for the networks, not for their distance
    """

    fine = False

    def __init__(
        self,
        network: Network,
        a: Arrays,
        b: Arrays,
        outer: Mapping[Atom, tuple[Atom, ...]],
        solver: Solver = Exact(),
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.kinds = Kinds.of(network)
        self.elements: dict[Key, np.ndarray] = {}
        super().__init__(network, a, b, outer, solver, progress)

    def _products(self) -> ElementProducts:
        return ElementProducts(self.network, self.a, self.groups, self.exponents, self.kinds)

    def state(self) -> Any:
        return self.current, dict(self.found), dict(self.elements)

    def go_to(self, there: Any) -> None:
        self.current, self.found, self.elements = there[0], dict(there[1]), dict(there[2])
        for places in self.products.places:
            for place in places:
                place.product = None

    def _match(
        self,
        i: int,
        settled: Collection[Atom] | None = None,
        gain: float = GAIN,
        profiles: bool = False,
    ) -> bool:
        if not self.kinds.concern(self.groups[i]):
            return super()._match(i, settled, gain, profiles)  # type: ignore[arg-type]
        problem: ElementProblem = self.products.problem(self.current, i, settled)  # type: ignore[assignment]
        if not (problem.parts or problem.joints):
            return False
        before = problem.value()
        with one_if_small(max(atom.size for atom in self.groups[i])):
            solution = problem.solve(self.solver)
        self.statuses[i] = worst(solution.status, LOCAL if self.twice[i] else OPTIMAL)
        least = (0 if self.alone else gain) * (abs(before) + NOTHING * self.size)
        if self.fine:
            least = min(least, _FINE * (sum(self.squares) - 2 * self.value()))
        if solution.value - before <= least:
            return False
        delta, elements = self._delta(i, solution)
        if self.twice[i] and settled is None:
            moved = apply_to(self.network, elements, move(self.network, delta, self.current))
            if self._inner(moved) <= self.value():
                return False  # the gain was not real
        self._move(i, delta, elements)
        return True

    def _delta(
        self, i: int, solution: ElementSolution
    ) -> tuple[dict[str, np.ndarray], dict[Key, np.ndarray]]:
        """Permutations by name and elements by factor; those that do nothing left out."""
        by_atom, elements = self.network.by_atom, {}
        for atom in self.groups[i]:
            keys = self.kinds.signs.get(atom, ())
            for key, signs in zip(keys, solution.signs.get(atom, ()), strict=False):
                if (signs < 0).any():
                    elements[key] = signs
            if atom in solution.rotations:
                g = solution.rotations[atom]
                if np.abs(g - np.eye(g.shape[-1])).max(initial=0) > _UNMOVED:
                    elements[self.kinds.rotations[atom]] = g
        return {by_atom[a].name: p for a, p in solution.permutations.items()}, elements

    def _move(
        self,
        i: int,
        delta: dict[str, np.ndarray],
        elements: Mapping[Key, np.ndarray] | None = None,
    ) -> None:
        network = self.network
        super()._move(i, delta)
        whole = {**self.identity, **delta}
        self.elements = passed(network, self.elements, whole, network.nesting)
        if not elements:
            return
        self.current = apply_to(network, elements, self.current)
        self.elements = multiplied(network, elements, self.elements)
        units: dict[Any, np.ndarray] = {}
        for key, element in elements.items():
            group = network.groups[key[0]]
            moved = element < 0 if element.shape == group.shape else np.ones(group.shape, bool)
            units[group.atom] = units.get(group.atom, False) | moved
        for place in self.products.places[i]:
            place.product = None
        self.products.changed(i, units)


__all__ = ["ElementDescent"]
