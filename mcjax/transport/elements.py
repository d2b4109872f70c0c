"""Groups inside groups that are permuted, change their signs or are rotated: the best element.

What is maximised is a sum of inner products ⟨a's units, g b's units⟩. A unit's sign may act on a
part of its parameters only, so profits are given in parts, each with the signs that act on it;
rotations are groups without units inside.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from ..network.axes import Atom
from ..symmetry.matrices import nearest_orthogonal
from .solution import LOCAL, OPTIMAL, worst
from .solvers import Exact, Solver
from .terms import Outer, Permutations, Term, at, families, value_of
from .terms import identity as stay

# So many signs of one unit are tried in all combinations.
_SIGNS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """A profit, and for each atom which of its signs multiply it (a bit each)."""

    term: Term
    signs: Mapping[Atom, int]


@dataclasses.dataclass(frozen=True, eq=False)
class ElementSolution:
    """Elements of groups of units.

    - `permutations`: atom → (*outer sizes, size); `signs`: atom → (signs of a unit, *outer sizes,
      size); `rotations`: atom → (*outer sizes, size, size); the permutation comes first
    - `value`: the sum of all parts there; `status`: as in `Solution`
    """

    permutations: Permutations
    signs: dict[Atom, np.ndarray]
    rotations: dict[Atom, np.ndarray]
    value: float
    status: str


@dataclasses.dataclass(frozen=True, eq=False)
class ElementProblem:
    """What is maximised over elements of groups of units.

    - `parts`: of the profit
    - `outer`: every atom to match → the atoms that its element depends on, outermost first
    - `signs`: atom → how many signs each of its units has (0 where absent)
    - `rotations`: the atoms that are rotated → whether their constant vector is kept
    """

    parts: Sequence[Part]
    outer: Outer
    signs: Mapping[Atom, int]
    rotations: Mapping[Atom, bool]

    def value(self) -> float:
        """The sum of all parts where nothing moves."""
        return value_of([p.term for p in self.parts], stay(self.outer), self.outer)

    def solve(self, solver: Solver = Exact()) -> ElementSolution:
        """The best element: of one group, of groups inside one another whose profits are sums.

        One problem for each pair of outer units and each of their signs; `"optimal"` but for
        units of so many signs that they are chosen in turn, and where a part concerns groups of
        which none is inside the other (it is left out).
        """
        found = ElementSolution({}, {}, {}, 0.0, OPTIMAL)
        for root, family in families(self.outer).items():
            own = [p for p in self.parts if root in (*p.term.units, *p.term.fixed)]
            mine = [p for p in own if set(p.term.units) <= set(family)]
            part = self._family(root, family, mine, solver)
            status = worst(part.status, OPTIMAL if len(mine) == len(own) else LOCAL)
            found = _beside(found, dataclasses.replace(part, status=status))
        return found

    def _inner(self, root: Atom, family: Sequence[Atom], parts: Sequence[Part]) -> ElementProblem:
        outer = {a: tuple(o for o in self.outer[a] if o is not root) for a in family if a != root}
        return dataclasses.replace(self, parts=parts, outer=outer)

    def _family(
        self, root: Atom, family: Sequence[Atom], parts: Sequence[Part], solver: Solver
    ) -> ElementSolution:
        n = root.size
        if root not in self.outer:  # a fixed axis: each of its indices is a problem of its own
            each = []
            for i in range(n):
                here = [Part(at(p.term, root, i, i), p.signs) for p in parts]
                each.append(self._inner(root, family, here).solve(solver))
            return _stacked(each, root, self.outer)
        if root in self.rotations:
            profit = np.zeros((n, n)) + sum(_matrix(p.term) for p in parts)
            g = nearest_orthogonal(profit, fixing_ones=self.rotations[root])
            value = float(np.vdot(g, profit))
            p = stay({root: ()})
            return ElementSolution(p, {}, {root: g}, value, OPTIMAL)
        many = self.signs.get(root, 0)
        choices = _choices(many)
        status = OPTIMAL if many <= _SIGNS else LOCAL
        if len(family) > 1:
            return self._pairs(root, family, parts, choices, solver, status)
        profits: dict[int, np.ndarray] = {}
        for p in parts:
            code = p.signs.get(root, 0)
            profits[code] = profits.get(code, 0.0) + _matrix(p.term)
        values, chosen = np.full((n, n), -np.inf), np.zeros((n, n), int)
        for c, signs in enumerate(choices):
            total = np.zeros((n, n)) + sum(_sign(signs, k) * v for k, v in profits.items())
            chosen = np.where(total > values, c, chosen)
            values = np.maximum(values, total)
        p, value, of_solver = solver.assign(values)
        own = np.array(choices, float)[chosen[np.arange(n), p]].T.reshape(many, n)
        return ElementSolution({root: p}, {root: own}, {}, value, worst(status, of_solver))

    def _pairs(
        self,
        root: Atom,
        family: Sequence[Atom],
        parts: Sequence[Part],
        choices: Sequence[Sequence[int]],
        solver: Solver,
        status: str,
    ) -> ElementSolution:
        n = root.size
        values, best = np.full((n, n), -np.inf), {}
        for i, j in np.ndindex(n, n):
            here = [at(p.term, root, i, j) for p in parts]
            for signs in choices:
                turned = [
                    Part(_times(t, _sign(signs, p.signs.get(root, 0))), p.signs)
                    for t, p in zip(here, parts, strict=True)
                ]
                alone = sum(float(p.term.profit.sum()) for p in turned if not p.term.units)
                found = self._inner(root, family, turned).solve(solver)
                if found.value + alone > values[i, j]:
                    values[i, j], best[i, j] = found.value + alone, (found, signs)
        p, value, of_solver = solver.assign(values)
        each = [best[i, j] for i, j in enumerate(p.tolist())]
        whole = _stacked([e for e, _ in each], root, self.outer)
        signs = np.array([s for _, s in each], float).T.reshape(self.signs.get(root, 0), n)
        return dataclasses.replace(
            whole,
            permutations={root: p} | whole.permutations,
            signs={root: signs} | whole.signs,
            value=value,
            status=worst(whole.status, status, of_solver),
        )


def _choices(many: int) -> list[tuple[int, ...]]:
    """The signs of a unit that are tried, those of none changed first."""
    if many <= _SIGNS:
        return list(itertools.product((1, -1), repeat=many))
    one = [1] * many
    return [tuple(one), *((*one[:i], -1, *one[i + 1 :]) for i in range(many))]


def _sign(signs: Sequence[int], code: int) -> int:
    out = 1
    for bit, s in enumerate(signs):
        out = out * s if code >> bit & 1 else out
    return out


def _times(term: Term, sign: int) -> Term:
    return term if sign == 1 else dataclasses.replace(term, profit=-term.profit)


def _matrix(term: Term) -> np.ndarray:
    """Profits over pairs of units, (n, n)."""
    return term.profit.sum(tuple(range(len(term.fixed)))) if term.fixed else term.profit


def _beside(first: ElementSolution, second: ElementSolution) -> ElementSolution:
    return ElementSolution(
        first.permutations | second.permutations,
        first.signs | second.signs,
        first.rotations | second.rotations,
        first.value + second.value,
        worst(first.status, second.status),
    )


def _stacked(each: Sequence[ElementSolution], root: Atom, outer: Outer) -> ElementSolution:
    """The elements of each of the root's units as arrays along it."""

    def stack(found: Sequence[Mapping[Atom, np.ndarray]], after: int = 0) -> dict:
        return {
            a: np.stack([f[a] for f in found], axis=after + outer[a].index(root)) for a in found[0]
        }

    return ElementSolution(
        stack([e.permutations for e in each]),
        stack([e.signs for e in each], 1),
        stack([e.rotations for e in each]),
        sum(e.value for e in each),
        worst(*(e.status for e in each)),
    )


__all__ = ["ElementProblem", "ElementSolution", "Part"]
