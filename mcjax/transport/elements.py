"""Groups inside groups that are permuted, change their signs or are rotated: the best element.

What is maximised is a sum of inner products ⟨a's units, g b's units⟩. A unit's sign may act on a
part of its parameters only, so profits are given in parts, each with the signs that act on it;
rotations are groups without units inside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ..network.axes import Atom
from ..symmetry.matrices import nearest_orthogonal
from .element_joints import JointPart
from .signs import MANY, best_signs, choices_of, product_of
from .solution import LOCAL, OPTIMAL, worst
from .solvers import Exact, Solver
from .terms import Outer, Permutations, Term, at, families, value_of
from .terms import identity as stay

# Groups beside each other are matched in so many turns at most.
_TURNS = 10
_TOLERANCE = 1e-9


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
    joints: Sequence[JointPart] = ()

    def value(self) -> float:
        """The sum of all parts where nothing moves."""
        terms = [p.term for p in self.parts]
        own = value_of(terms, stay(self.outer), self.outer)
        return own + sum(j.value() for j in self.joints)

    def solve(self, solver: Solver = Exact()) -> ElementSolution:
        """The best element: of one group, of groups inside one another whose profits are sums.

        One problem for each pair of outer units and each of their signs; `"optimal"` but for
        units of so many signs that they are chosen in turn, and for groups that stand on one
        block and are not inside one another, which are matched in turns.
        """
        whole = self._plain()
        found = ElementSolution({}, {}, {}, 0.0, OPTIMAL)
        every = families(whole.outer)
        tied = {a for j in whole.joints for a in j.joint.units}
        beside = [r for r, family in every.items() if not tied.isdisjoint(family)]
        if len(beside) > 1 and all(r in whole.outer for r in beside):
            found = whole._in_turns({r: every[r] for r in beside}, solver)
            every = {r: f for r, f in every.items() if r not in beside}
        for root, family in every.items():
            found = _beside(found, whole._of(family).family(root, solver))
        return found

    def _plain(self) -> ElementProblem:
        """With a part for each joint whose groups are inside one another."""
        parts, joints = list(self.parts), []
        for j in self.joints:
            mine = tuple(a for a in j.joint.units if a in self.outer)
            if j.joint.fixed or j.crossed(self.outer):
                joints.append(j)
            else:
                parts.append(Part(j.term(mine), j.signs))
        return dataclasses.replace(self, parts=parts, joints=joints)

    def _of(self, family: Sequence[Atom]) -> ElementProblem:
        """Of some groups alone."""
        mine = set(family)
        return dataclasses.replace(
            self,
            outer={a: self.outer[a] for a in family if a in self.outer},
            parts=[p for p in self.parts if p.term.units and set(p.term.units) <= mine],
            joints=[j for j in self.joints if not mine.isdisjoint(j.joint.units)],
        )

    def _at(self, root: Atom, i: int, j: int, signs: Sequence[int] = ()) -> ElementProblem:
        """What is left to match where unit i of a's root and j of b's, its signs changed, meet."""
        outer = {a: tuple(o for o in self.outer[a] if o is not root) for a in self.outer}
        outer.pop(root, None)

        def sign(part: Part | JointPart) -> int:
            return product_of(signs, part.signs.get(root, 0))

        here = [p for p in self.parts if root in (*p.term.units, *p.term.fixed)]
        return dataclasses.replace(
            self,
            outer=outer,
            parts=[Part(_times(at(p.term, root, i, j), sign(p)), p.signs) for p in here],
            joints=[x.at(root, i, j).times(sign(x)) for x in self.joints if x.concerns(root)],
        )

    def _in_turns(self, every: Mapping[Atom, Sequence[Atom]], solver: Solver) -> ElementSolution:
        """Groups beside each other, each matched with the others held.

        The first is matched as if the others were inside each of its units.
        """
        order = sorted(every, key=lambda r: (r in self.rotations, r.size))
        if any(len(f) > 1 for f in every.values()):  # groups inside these: without the joints
            alone = dataclasses.replace(self, joints=())
            out = [alone._of(every[r]).family(r, solver) for r in order]
            found = out[0]
            for other in out[1:]:
                found = _beside(found, other)
            return dataclasses.replace(found, status=LOCAL)
        first, rest = order[0], order[1:]
        solved: dict[Atom, ElementSolution] = {}
        if first not in self.rotations:
            inside = {a: (first, *self.outer[a]) for a in rest}
            joint = dataclasses.replace(
                self,
                outer={first: self.outer[first], **inside},
                parts=[p for p in self.parts if p.term.units == (first,)],
            )
            start = joint.family(first, solver)
            solved[first] = ElementSolution(
                {first: start.permutations[first]}, {first: start.signs[first]}, {}, 0.0, LOCAL
            )
        value = -np.inf
        for _ in range(_TURNS):
            for root in [*rest, first]:
                solved[root] = self._one(root, solved, solver)
            joints = self._held(solved, None)
            reached = sum(j.value() for j in joints)
            for root in order:
                own = [p for p in self.parts if p.term.units == (root,)]
                reached += sum(_value(p, solved[root], root) for p in own)
            if reached <= value + _TOLERANCE * abs(reached):
                break
            value = reached
        found = ElementSolution({}, {}, {}, 0.0, LOCAL)
        for root in order:
            found = _beside(found, solved[root])
        return dataclasses.replace(found, value=float(reached))

    def _held(self, solved: Mapping[Atom, ElementSolution], but: Atom | None) -> list[JointPart]:
        joints = list(self.joints)
        for atom, of in solved.items():
            if atom is not but:
                signs = of.signs.get(atom, np.ones((0, atom.size)))
                moving = (of.permutations[atom], signs, of.rotations.get(atom))
                joints = [j.moved(atom, *moving) if atom in j.joint.units else j for j in joints]
        return joints

    def _one(
        self, root: Atom, solved: Mapping[Atom, ElementSolution], solver: Solver
    ) -> ElementSolution:
        """One group, the others held where they are."""
        own = [p for p in self.parts if p.term.units == (root,)]
        for j in self._held(solved, root):
            if root in j.joint.units:
                own.append(Part(j.term((root,)), j.signs))
        alone = dataclasses.replace(self, parts=own, joints=(), outer={root: ()})
        return alone.family(root, solver)

    def family(self, root: Atom, solver: Solver) -> ElementSolution:
        """All groups are inside the root."""
        n = root.size
        if root not in self.outer:  # a fixed axis: each of its indices is a problem of its own
            each = [self._at(root, i, i).solve(solver) for i in range(n)]
            return _stacked(each, root, self.outer)
        if root in self.rotations:
            profit = np.zeros((n, n)) + sum(_matrix(p.term) for p in self.parts)
            g = nearest_orthogonal(profit, fixing_ones=self.rotations[root])
            found = stay({root: ()})
            return ElementSolution(found, {}, {root: g}, float(np.vdot(g, profit)), OPTIMAL)
        if len(self.outer) > 1:
            return self._pairs(root, solver)
        many, n = self.signs.get(root, 0), root.size
        profits: dict[int, np.ndarray] = {}
        for p in self.parts:
            code = p.signs.get(root, 0)
            profits[code] = profits.get(code, 0.0) + _matrix(p.term)
        values, signs_of, status = best_signs(profits, n, many)
        p, value, of_solver = solver.assign(values)
        own = signs_of(np.arange(n), p)
        return ElementSolution({root: p}, {root: own}, {}, value, worst(status, of_solver))

    def _pairs(self, root: Atom, solver: Solver) -> ElementSolution:
        """Groups inside the root's units: one problem for each pair of these and each sign.

        Where nothing but rotations is inside, pairs count with an upper bound until an assignment
        uses them.
        """
        n, many = root.size, self.signs.get(root, 0)
        choices = choices_of(many)
        values = self._bounds(root) if not many else None
        best: dict[tuple[int, int], tuple[ElementSolution, Sequence[int]]] = {}

        def solve(i: int, j: int) -> float:
            most = -np.inf
            for signs in choices:
                here = self._at(root, i, j, signs)
                alone = sum(float(p.term.profit.sum()) for p in here.parts if not p.term.units)
                found = here.solve(solver)
                if found.value + alone > most:
                    most, best[i, j] = found.value + alone, (found, signs)
            return most

        if values is None:
            values = np.array([[solve(i, j) for j in range(n)] for i in range(n)])
        while True:
            p, value, of_solver = solver.assign(values)
            new = [pair for pair in enumerate(p.tolist()) if pair not in best]
            for i, j in new:
                values[i, j] = solve(i, j)
            if not new:
                break
        each = [best[i, j] for i, j in enumerate(p.tolist())]
        whole = _stacked([e for e, _ in each], root, self.outer)
        signs = np.array([s for _, s in each], float).T.reshape(many, n)
        of_signs = OPTIMAL if many <= MANY else LOCAL
        looked_at = worst(*(f.status for f, _ in best.values()))  # chosen or not
        return dataclasses.replace(
            whole,
            permutations={root: p} | whole.permutations,
            signs={root: signs} | whole.signs,
            value=value,
            status=worst(looked_at, of_signs, of_solver),
        )

    def _bounds(self, root: Atom) -> np.ndarray | None:
        """For each pair of the root's units at least what is inside can be worth; None if that
        is not known. The trace norm of M is at most √rank ‖M‖.
        """
        inside = [a for a in self.outer if a is not root]
        plain = all(a in self.rotations and self.outer[a] == (root,) for a in inside)
        if self.joints or not plain:
            return None
        own: dict[tuple[Atom, ...], np.ndarray] = {}
        for p in self.parts:
            if root in p.term.units and not p.term.fixed:
                own[p.term.units] = own.get(p.term.units, 0.0) + p.term.profit
            else:
                return None
        total = np.zeros((root.size, root.size))
        for units, profit in own.items():
            k = units.index(root)
            if len(units) > 2:
                return None
            if len(units) == 1:
                total += profit
                continue
            away = (1 - k, 3 - k)
            total += np.sqrt(units[1 - k].size * np.sum(np.square(profit), away, np.float64))
        return total


def _value(part: Part, found: ElementSolution, root: Atom) -> float:
    """A part over one group, at its element."""
    profit, p = _matrix(part.term), found.permutations[root]
    if root in found.rotations:
        return float(np.vdot(found.rotations[root], profit))
    picked = profit[np.arange(root.size), p]
    for bit, s in enumerate(found.signs.get(root, ())):
        picked = picked * s if part.signs.get(root, 0) >> bit & 1 else picked
    return float(picked.sum())


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
