"""Groups that stand on one parameter and do not depend on each other, without their joint profit.

In a grouped convolution the units that are read and those that are written stand inside the same
groups. The profit of matching both jointly is an array over all pairs of pairs, (groups · width²)²
numbers. Instead each pair of groups is solved by itself from the two networks' blocks, and inside
it one set of units after the other, the others held.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..network.axes import Atom
from .assignment import Assign, Solution, assign, solve
from .terms import Outer, Permutations, Term, add_up, value_of
from .terms import at as term_at

_MAX_TURNS = 30
# Groups of so few units are tried in every order.
_ENUMERATED = 4
# All pairs of outer units are solved to the end if there are so few units in them altogether.
_FEW = 64
_TOLERANCE = 1e-7


@dataclasses.dataclass(frozen=True, eq=False)
class Joint:
    """Blocks of networks a and b: arrays of dimensions (fixed…, units…, everything else).

    - `units`: those to match, and those of groups that nothing is known of
    - `axes`: the parameter's axis each unit dimension comes from
    """

    a: np.ndarray
    b: np.ndarray
    fixed: tuple[Atom, ...]
    units: tuple[Atom, ...]
    axes: tuple[int, ...]

    def at(self, root: Atom, i: int, j: int) -> Joint:
        """Unit i of a's root against unit j of b's (or index i of a fixed axis in both)."""
        in_fixed = root in self.fixed
        k = (self.fixed if in_fixed else self.units).index(root)
        before = (slice(None),) * (k if in_fixed else len(self.fixed) + k)
        a, b = self.a[(*before, i)], self.b[(*before, j)]
        if in_fixed:
            return Joint(a, b, (*self.fixed[:k], *self.fixed[k + 1 :]), self.units, self.axes)
        units = (*self.units[:k], *self.units[k + 1 :])
        axes = (*self.axes[:k], *self.axes[k + 1 :])
        return Joint(a, b, self.fixed, units, axes)

    def crossed(self, outer: Outer) -> bool:
        """Whether groups to match stand here that do not depend on each other."""
        return crossed([a for a in self.units if a in outer], outer)

    def value(self, found: Permutations, outer: Outer) -> float:
        """The inner product where all units are matched as found."""
        return float(np.sum(self._term((), found, outer).profit))

    def terms(self, family: Sequence[Atom], found: Permutations, outer: Outer) -> list[Term]:
        """Profits of matching the units of one family, all others held as found.

        For units that are in `found` neither, values are sorted over them: the profit of the
        best match of single values, which no permutation of those units changes. A group that
        stands on several axes gives a term for each, held on the others.
        """
        mine = [p for p, a in enumerate(self.units) if a in family]
        if len({self.units[p] for p in mine}) == len(mine):
            return [self._term(tuple(mine), found, outer)]
        by_axis = {self.axes[p]: [] for p in mine}
        for p in mine:
            by_axis[self.axes[p]].append(p)
        return [self._term(tuple(kept), found, outer) for kept in by_axis.values()]

    def _term(self, kept: tuple[int, ...], found: Permutations, outer: Outer) -> Term:
        f = len(self.fixed)
        away = [p for p in range(len(self.units)) if p not in kept]
        held = [p for p in away if self.units[p] in found]
        free = [p for p in away if self.units[p] not in found]
        order = [*range(f), *(f + p for p in (*held, *kept, *free)), self.a.ndim - 1]
        a, b = np.transpose(self.a, order), np.transpose(self.b, order)
        b = b[self._matched(held, found, outer)]
        sizes = a.shape[:f], *(tuple(self.units[p].size for p in of) for of in (held, kept, free))
        shape = (*map(math.prod, sizes), a.shape[-1])
        a, b = (v.reshape(shape).transpose(0, 2, 1, 4, 3) for v in (a, b))
        if free:  # (fixed, kept, held, everything else, free)
            a, b = np.sort(a, -1), np.sort(b, -1)
        profit = _product(*(v.reshape(shape[0], shape[2], -1) for v in (a, b)))
        units = tuple(self.units[p] for p in kept)
        return Term(profit.reshape(sizes[0] + sizes[2] * 2), self.fixed, units)

    def _matched(self, held: Sequence[int], found: Permutations, outer: Outer) -> tuple:
        """The index that takes b's units held where a's are, on the first dimensions."""
        names = [*self.fixed, *(self.units[p] for p in held)]
        grid = np.ix_(*(np.arange(a.size) for a in names))
        index = dict(zip(self.fixed, grid, strict=False))
        for place, atom in zip(grid[len(self.fixed) :], names[len(self.fixed) :], strict=True):
            index[atom] = place  # an atom's outer units stand before it on its own axis
        matched = [
            found[a][(*(index[o] for o in outer[a]), place)]
            for a, place in zip(names[len(self.fixed) :], grid[len(self.fixed) :], strict=True)
        ]
        return (*grid[: len(self.fixed)], *matched)


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.real(a @ np.conj(b).swapaxes(1, 2))


def crossed(units: Sequence[Atom], outer: Outer) -> bool:
    """Whether two of these do not depend on each other (an atom that stands twice, on itself)."""
    return any(
        a not in outer.get(b, ()) and b not in outer.get(a, ())
        for a, b in itertools.combinations(units, 2)
    )


def nested(outer: Outer) -> bool:
    """Whether the outer groups of every group lie inside one another."""
    return all(
        outer[o] == outer[a][:k] for a in outer for k, o in enumerate(outer[a]) if o in outer
    )


def joint_value(
    terms: Sequence[Term], joints: Sequence[Joint], found: Permutations, outer: Outer
) -> float:
    """The sum of all terms and blocks at given permutations."""
    return value_of(terms, found, outer) + sum(j.value(found, outer) for j in joints)


def solve_jointly(
    terms: Sequence[Term],
    joints: Sequence[Joint],
    outer: Outer,
    *,
    assigner: Assign = assign,
    quick: bool = False,
) -> Solution:
    """Permutations of nested groups that maximise the sum of all terms and blocks.

    Memory is bounded by one pair of outer units: the profits over the units of one group inside
    it, and the two blocks. Without blocks as exact as `solve`. With them the value of a pair is
    that of a local optimum (the optimum if one of two groups inside has at most four units and
    all are few), and large groups of pairs are scored after one turn and solved to the end where
    they are chosen. For those values the assignment of outer units is exact.

    **Arguments:**
    - `quick`: stop after one turn

    **Returns:** as `solve`; what is found with blocks is never called exact
    """
    alone = [j.terms(tuple(outer), {}, outer) for j in joints if not j.crossed(outer)]
    terms = add_up([*terms, *itertools.chain(*alone)])
    joints = [j for j in joints if j.crossed(outer)]
    if not joints:
        return solve(terms, outer, assigner=assigner)
    roots = list(dict.fromkeys(o[0] if o else a for a, o in outer.items()))
    root = roots[0]
    if len(roots) > 1 or any(j.units.count(root) > 1 for j in joints):
        return _in_turns(terms, joints, outer, roots, assigner, quick)
    inner = {a: o[1:] for a, o in outer.items() if a is not root}
    terms = [t for t in terms if root in (*t.units, *t.fixed)]

    def pair(i: int, j: int, quick: bool = quick) -> Solution:
        parts = [term_at(t, root, i, j) for t in terms], [x.at(root, i, j) for x in joints]
        return solve_jointly(*parts, inner, assigner=assigner, quick=quick)

    n = root.size
    if root not in outer:  # a fixed axis: each of its indices is a problem of its own
        chosen, each = np.arange(n), [pair(i, i) for i in range(n)]
    else:
        many = n * max(a.size for a in inner) > _FEW
        pairs = [[pair(i, j, quick or many) for j in range(n)] for i in range(n)]
        chosen, _ = assigner(np.array([[s.value for s in row] for row in pairs]))
        each = [pairs[i][j] for i, j in enumerate(chosen)]
        if many and not quick:  # values only rise: what has been chosen stays best
            each = [max(e, pair(i, chosen[i]), key=lambda s: s.value) for i, e in enumerate(each)]
    found = {a: np.stack([s.permutations[a] for s in each], outer[a].index(root)) for a in inner}
    found |= {root: chosen} if root in outer else {}
    return Solution(found, sum(s.value for s in each), exact=False)


def _in_turns(
    terms: Sequence[Term],
    joints: Sequence[Joint],
    outer: Outer,
    roots: Sequence[Atom],
    assigner: Assign,
    quick: bool,
) -> Solution:
    """Families of groups, each assigned with the others held, from several starts."""
    families = [tuple(a for a in outer if a is r or r in outer[a]) for r in roots]
    twice = {a for j in joints for a in j.units if j.units.count(a) > 1}
    own = {
        family: [t for t in terms if not set(family).isdisjoint((*t.units, *t.fixed))]
        for family in families
    }

    def assigned(family: tuple[Atom, ...], found: Permutations) -> Permutations:
        given = {a: p for a, p in found.items() if a not in family or a in twice}
        held = own[family]
        if found or not held:  # else there is better to go by than sorted values
            held = [*held, *itertools.chain(*(j.terms(family, given, outer) for j in joints))]
        mine = {a: outer[a] for a in family}
        return found | solve(add_up(held), mine, assigner=assigner).permutations

    best: tuple[Permutations, float] = {}, -math.inf
    for start, order in itertools.islice(_starts(families, own, quick), 1 if quick else None):
        found, value = dict(start), -math.inf
        for _ in range(1 if start or quick else _MAX_TURNS):
            for family in order:
                found = assigned(family, found)
            reached = joint_value(terms, joints, found, outer)
            if reached > best[1]:
                best = dict(found), reached
            if reached <= value + _TOLERANCE * abs(value):
                break
            value = reached
    return Solution(*best, exact=False)


def _starts(
    families: Sequence[tuple[Atom, ...]],
    own: Mapping[tuple[Atom, ...], Sequence[Term]],
    quick: bool,
) -> Iterator[tuple[Permutations, Sequence[tuple[Atom, ...]]]]:
    """Permutations to begin with, and the families to assign in turns from there."""
    small = min(families, key=lambda f: (len(f), f[0].size))
    rest = [f for f in families if f is not small]
    if len(rest) == 1 and len(small) == 1 and small[0].size <= _ENUMERATED and not quick:
        for order in itertools.permutations(range(small[0].size)):
            yield {small[0]: np.array(order)}, rest
        return
    families = sorted(families, key=lambda f: not own[f])  # those with terms of their own first
    for k in range(len(families)):
        yield {}, [*families[k:], *families[:k]]
