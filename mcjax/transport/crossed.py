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

import numpy as np

from ..network.axes import Atom
from .solution import BOUND, LOCAL, OPTIMAL, GroupSolution, worst
from .solvers import Search
from .terms import (
    Outer,
    Permutations,
    Term,
    add_up,
    clusters,
    families,
    identity,
    reduce_term,
    value_of,
)
from .terms import at as term_at

Solve = Callable[[Sequence[Term], Outer], GroupSolution]

# Permutations that are enumerated, and their number times the entries of the profits left.
_ENUMERATED = 10_000
_ENUMERATED_ENTRIES = 3 * 10**8
_MAX_TURNS = 30
# Exchanges tried times the entries of the terms.
_EXCHANGED_ENTRIES = 10**9
_TOLERANCE = 1e-12
# Permutations of so many units are worth a look at what each pair can be worth.
_RANKED = 4
_ROUNDING = 1e-6  # of a bound


def solve_crossed(
    terms: Sequence[Term],
    outer: Outer,
    roots: Mapping[Atom, tuple[Atom, ...]],
    solve: Solve,
    search: Search,
) -> GroupSolution:
    """Permutations that maximise the sum of all terms.

    **Arguments:**
    - `roots`: root → its family, see `families`
    - `solve`: solves what is left when some atoms are matched
    - `search`: how much is tried where too many permutations would have to be enumerated
    """
    few = _few(terms, outer)
    if few:
        return _enumerate(terms, outer, few, solve)
    return _Search(terms, outer, roots, solve, search).run()


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


def _enumerate(
    terms: Sequence[Term], outer: Outer, few: Sequence[Atom], solve: Solve
) -> GroupSolution:
    """All permutations of a few atoms; for each the others as `solve` finds them.

    Those that cannot be better than what has been found are not solved.
    """
    left = {a: o for a, o in outer.items() if a not in few}
    best, value, status = identity(outer), -math.inf, OPTIMAL
    for most, setting in _ranked(terms, outer, few, solve):
        least = value - _ROUNDING * abs(value)
        if most < least:
            break
        reduced = add_up(reduce_term(t, few, setting, outer) for t in terms)
        if sum(map(_most, reduced)) < least:
            continue
        solution = solve(reduced, left)
        status = worst(status, solution.status)
        if solution.value > value:
            best, value = setting | solution.permutations, solution.value
    return GroupSolution(best, value, status)


def _ranked(
    terms: Sequence[Term], outer: Outer, few: Sequence[Atom], solve: Solve
) -> Iterator[tuple[float, Permutations]]:
    """All permutations of a few atoms, and at least what each can be worth, greatest first.

    Of one atom: what it is worth if all others may differ for each of its pairs of units.
    """
    (atom, *more), left = few, {a: o for a, o in outer.items() if a not in few}
    if more or outer[atom] or atom.size < _RANKED or any(atom in o for o in left.values()):
        yield from ((math.inf, setting) for setting in _settings(few, outer))
        return
    mine = [t for t in terms if atom in t.units]
    own = {a: o for a, o in left.items() if any(a in t.units for t in mine)}
    n, exact = atom.size, True
    values = np.empty((n, n))
    for i, j in np.ndindex(n, n):
        solution = solve([term_at(t, atom, i, j) for t in mine], own)
        values[i, j], exact = solution.value, exact and solution.optimal
    orders = np.array(list(itertools.permutations(range(n))))
    bounds = values[np.arange(n), orders].sum(1) + sum(_most(t) for t in terms if t not in mine)
    for k in np.argsort(-bounds, kind="stable"):
        yield float(bounds[k]) if exact else math.inf, {atom: orders[k]}


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
        search: Search,
    ) -> None:
        self.terms, self.outer, self.solve, self.search = terms, outer, solve, search
        self.families = list(roots.values())
        self.roots = {r: family for r, family in roots.items() if r in outer}
        self.best: Permutations = identity(outer)
        self.value = value_of(terms, self.best, outer)
        self.bound = math.inf
        self.statuses: set[str] = set()

    def run(self) -> GroupSolution:
        """From the identity, from each root first, at random; then exchanges."""
        rng = np.random.default_rng(0)
        self.ascend(self.best, self.families)
        for root in self.roots:
            self.ascend(self.from_root(root), self.families)
            if self.proved():
                return self.found(OPTIMAL)
        for _ in range(self.search.restarts):
            self.ascend(_random(self.outer, rng), self.families)
        finished = self.exchange()
        return self.found(OPTIMAL if self.proved() else LOCAL if finished else BOUND)

    def found(self, status: str) -> GroupSolution:
        # The bound is an optimum's: reached, it proves whatever the assignments were.
        return GroupSolution(
            self.best, self.value, status if status == OPTIMAL else worst(status, *self.statuses)
        )

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
                self.statuses.add(solution.status)
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
        if solution.optimal:
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

    def exchange(self) -> bool:
        """Exchange two units of one group and assign the others anew, while that helps.

        **Returns:** whether no exchange is left that could help.
        """
        entries = sum(t.profit.size for t in self.terms) * len(self.families)
        tries = min(
            self.search.exchanges // len(self.families), _EXCHANGED_ENTRIES // max(entries, 1)
        )
        pairs = list(self.pairs())
        since = 0
        for atom, at, i, j in itertools.islice(itertools.cycle(pairs), tries):
            swapped = self.best[atom].copy()
            swapped[(*at, [i, j])] = swapped[(*at, [j, i])]
            others = [f for f in self.families if atom not in f]
            mine = [f for f in self.families if atom in f]
            since = 0 if self.ascend(self.best | {atom: swapped}, [*others, *mine]) else since + 1
            if since == len(pairs) or self.proved():
                return True
        return not pairs

    def pairs(self) -> Iterator[tuple[Atom, tuple[int, ...], int, int]]:
        """Two units of a group, at one index of what it depends on.

        A group inside one whose units can be exchanged is assigned anew with that one.
        """
        for atom, outer in self.outer.items():
            if all(o not in self.outer or o.size == 1 for o in outer):
                for at in np.ndindex(*(o.size for o in outer)):
                    for i, j in itertools.combinations(range(atom.size), 2):
                        yield atom, at, i, j


def _most(term: Term) -> float:
    """At least what a term can be worth: rows and columns reduced, as the Hungarian method begins.

    Of every row its largest entry; what is left has no positive entry, and of every column counts
    the largest. Or columns first.
    """
    f, u = len(term.fixed), len(term.units)
    n = math.prod(term.profit.shape[f : f + u])
    profit = term.profit.reshape(-1, n, n)

    def reduced(axis: int) -> float:
        first = profit.max(axis, keepdims=True)
        return float(first.sum() + (profit - first).max(3 - axis).sum())

    return min(reduced(1), reduced(2))


def _random(outer: Outer, rng: np.random.Generator) -> Permutations:
    return {a: np.argsort(rng.random((*(o.size for o in outer[a]), a.size)), -1) for a in outer}
