"""Groups that stand on the same arrays and do not depend on each other.

Matching them jointly is a quadratic assignment problem. Where few permutations of small groups
leave no others crossed they are enumerated, and the rest is assigned exactly. Otherwise groups
are assigned in turns from several starts, and pairs of units exchanged while that helps: a local
optimum, unless it attains an upper bound.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .terms import (
    Outer,
    Permutations,
    Term,
    clusters,
    families,
    identity,
    reduce_term,
    value_of,
)

if TYPE_CHECKING:
    from ..network.axes import Atom
    from .assignment import Solution

Solve = Callable[[Sequence[Term], Outer], "Solution"]
Found = tuple[Permutations, float, bool]

# Permutations that are enumerated, and their number times the entries of the profits left.
_ENUMERATED = 10_000
_ENUMERATED_ENTRIES = 3 * 10**8
_MAX_TURNS = 30
_RESTARTS = 10
# Exchanges tried, and their number times the entries of the terms.
_EXCHANGES = 2_000
_EXCHANGED_ENTRIES = 10**9
_TOLERANCE = 1e-12


def solve_crossed(
    terms: Sequence[Term], outer: Outer, roots: Mapping[Atom, tuple[Atom, ...]], solve: Solve
) -> Found:
    """Permutations that maximise the sum of all terms: (permutations, value, proved optimal).

    **Arguments:**
    - `roots`: root → its family, see `families`
    - `solve`: solves what is left when some atoms are matched
    """
    few = _few(terms, outer)
    if few:
        return _enumerate(terms, outer, few, solve)
    return _Search(terms, outer, roots, solve).run()


def _few(terms: Sequence[Term], outer: Outer) -> list[Atom]:
    """Atoms that can be enumerated and leave no crossed groups; none if these would be too many."""
    few: list[Atom] = []
    candidates = [[a, *(o for o in outer[a] if o in outer)] for a in outer]
    for atoms in sorted(candidates, key=lambda atoms: _count(atoms, outer)):
        few += [a for a in atoms if a not in few]
        left = {a: o for a, o in outer.items() if a not in few}
        units = [[a for a in t.units if a in left] for t in terms]
        count = _count(few, outer)
        entries = sum(math.prod(a.size for a in some) ** 2 for some in units)
        if count > _ENUMERATED or count * entries > _ENUMERATED_ENTRIES:
            return []
        if not any(is_crossed(cluster, outer) for cluster in clusters(left, units)):
            return few
    return []


def is_crossed(atoms: Collection[Atom], outer: Outer) -> bool:
    """Whether no root has all of these in its family."""
    found = families({a: outer[a] for a in atoms})
    return all(len(family) < len(atoms) for family in found.values())


def _count(atoms: Collection[Atom], outer: Outer) -> float:
    """The number of permutations of these atoms together."""
    logs = [math.prod(o.size for o in outer[a]) * math.lgamma(a.size + 1) for a in atoms]
    return math.exp(sum(logs)) if sum(logs) < 700 else math.inf


def _enumerate(terms: Sequence[Term], outer: Outer, few: Sequence[Atom], solve: Solve) -> Found:
    """All permutations of a few atoms; for each the others as `solve` finds them."""
    left = {a: o for a, o in outer.items() if a not in few}
    best: Permutations = {}
    value, exact = -math.inf, True
    for setting in _settings(few, outer):
        solution = solve([reduce_term(t, few, setting, outer) for t in terms], left)
        exact &= solution.exact
        if solution.value > value:
            best, value = setting | solution.permutations, solution.value
    return best, value, exact


def _settings(atoms: Sequence[Atom], outer: Outer) -> Iterator[Permutations]:
    """All permutations of some atoms."""
    shapes = {a: tuple(o.size for o in outer[a]) for a in atoms}
    choices = [
        itertools.product(itertools.permutations(range(a.size)), repeat=math.prod(shape))
        for a, shape in shapes.items()
    ]
    for chosen in itertools.product(*choices):
        yield {
            a: np.array(c).reshape(*shapes[a], a.size) for a, c in zip(atoms, chosen, strict=True)
        }


class _Search:
    """Coordinate ascent over families of groups, from several starts, then exchanges."""

    def __init__(
        self,
        terms: Sequence[Term],
        outer: Outer,
        roots: Mapping[Atom, tuple[Atom, ...]],
        solve: Solve,
    ) -> None:
        self.terms, self.outer, self.solve = terms, outer, solve
        self.families = list(roots.values())
        self.roots = {r: family for r, family in roots.items() if r in outer}
        self.best: Permutations = identity(outer)
        self.value = value_of(terms, self.best, outer)
        self.bound = math.inf

    def run(self) -> Found:
        """From the identity, from each root first, at random; then exchanges."""
        rng = np.random.default_rng(0)
        self.ascend(self.best, self.families)
        for root in self.roots:
            self.ascend(self.from_root(root), self.families)
            if self.proved():
                return self.best, self.value, True
        for _ in range(_RESTARTS):
            self.ascend(_random(self.outer, rng), self.families)
        self.exchange()
        return self.best, self.value, self.proved()

    def proved(self) -> bool:
        return self.value >= self.bound - _TOLERANCE * abs(self.bound)

    def ascend(self, start: Permutations, families: Sequence[tuple[Atom, ...]]) -> bool:
        """Assign one family after the other, the others held; True if that is the best so far."""
        found, value = start, value_of(self.terms, start, self.outer)
        for _ in range(_MAX_TURNS):
            before = value
            for family in families:
                away = [a for a in self.outer if a not in family]
                reduced = [reduce_term(t, away, found, self.outer) for t in self.terms]
                solution = self.solve(reduced, {a: self.outer[a] for a in family})
                if solution.value > value:
                    found, value = found | solution.permutations, solution.value
            if value <= before + _TOLERANCE * abs(before):
                break
        better = value > self.value + _TOLERANCE * abs(self.value)
        if better:
            self.best, self.value = found, value
        return better

    def from_root(self, root: Atom) -> Permutations:
        """The root's family where the others may differ for each of its units.

        With such freedom the value is at least the optimum: a bound.
        """
        mine = [t for t in self.terms if root in t.units]
        others = [t for t in self.terms if root not in t.units]
        with_root = {a for t in mine for a in t.units}
        family = self.roots[root]
        relaxed = {
            a: self.outer[a] if a in family else (root, *self.outer[a])
            for a in self.outer
            if a in with_root
        }
        solution = self.solve(mine, relaxed)
        if solution.exact:
            self.bound = min(self.bound, solution.value + sum(map(_most, others)))
        mine_too = {a: p for a, p in solution.permutations.items() if a in family}
        start = self.best | mine_too
        for other in self.families:  # these first: they have only been guessed
            if root not in other:
                start |= self._given(start, other)
        return start

    def _given(self, found: Permutations, family: Sequence[Atom]) -> Permutations:
        away = [a for a in self.outer if a not in family]
        reduced = [reduce_term(t, away, found, self.outer) for t in self.terms]
        return self.solve(reduced, {a: self.outer[a] for a in family}).permutations

    def exchange(self) -> None:
        """Exchange two units of one group and assign the others anew, while that helps."""
        entries = sum(t.profit.size for t in self.terms) * len(self.families)
        tries = min(_EXCHANGES // len(self.families), _EXCHANGED_ENTRIES // entries)
        pairs = [(r, i, j) for r in self.roots for i, j in itertools.combinations(range(r.size), 2)]
        since = 0
        for root, i, j in itertools.islice(itertools.cycle(pairs), tries):
            swapped = self.best[root].copy()
            swapped[..., [i, j]] = swapped[..., [j, i]]
            others = [f for f in self.families if root not in f]
            mine = [f for f in self.families if root in f]
            since = 0 if self.ascend(self.best | {root: swapped}, [*others, *mine]) else since + 1
            if since == len(pairs) or self.proved():
                return


def _most(term: Term) -> float:
    """At least what a term can be worth."""
    f, u = len(term.fixed), len(term.units)
    return float(term.profit.max(tuple(range(f + u, f + 2 * u))).sum())


def _random(outer: Outer, rng: np.random.Generator) -> Permutations:
    return {a: np.argsort(rng.random((*(o.size for o in outer[a]), a.size)), -1) for a in outer}
