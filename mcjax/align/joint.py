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
from .assignment import Assign, Permutations, Term, add_up, assign, solve, value_of
from .assignment import _at as term_at

Outer = Mapping[Atom, tuple[Atom, ...]]

_MAX_TURNS = 30
# Groups of so few units are tried in every order.
_ENUMERATED = 4
_TOLERANCE = 1e-7


@dataclasses.dataclass(frozen=True, eq=False)
class Joint:
    """Blocks of networks a and b: arrays of dimensions (fixed…, units…, everything else).

    - `axes`: the parameter's axis each unit dimension comes from
    """

    a: np.ndarray
    b: np.ndarray
    fixed: tuple[Atom, ...]
    units: tuple[Atom, ...]
    axes: tuple[int, ...]

    def at(self, root: Atom, i: int, j: int) -> Joint:
        """Unit i of a's root against unit j of b's (or index i of a fixed axis in both)."""
        if root in self.fixed:
            k = self.fixed.index(root)
            fixed = (*self.fixed[:k], *self.fixed[k + 1 :])
            return dataclasses.replace(self, a=self.a.take(i, k), b=self.b.take(i, k), fixed=fixed)
        k = self.units.index(root)
        dim = len(self.fixed) + k
        left = [tuple(v for p, v in enumerate(of) if p != k) for of in (self.units, self.axes)]
        return Joint(self.a.take(i, dim), self.b.take(j, dim), self.fixed, *left)

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
) -> tuple[Permutations, float]:
    """Permutations of nested groups that maximise the sum of all terms and blocks.

    Memory is bounded by one pair of outer units: the profits over the units of one group inside
    it, and the two blocks. Without blocks as exact as `solve`. With them the assignment of outer
    units is exact for the values their pairs have, and those of at most four units against one
    other group inside each pair are too; other values are those of a local optimum.

    **Returns:** as `solve`
    """
    alone = [j.terms(j.units, {}, outer) for j in joints if not crossed(j.units, outer)]
    terms = add_up([*terms, *itertools.chain(*alone)])
    joints = [j for j in joints if crossed(j.units, outer)]
    if not joints:
        return solve(terms, outer, assigner=assigner)
    roots = list(dict.fromkeys(o[0] if o else a for a, o in outer.items()))
    root = roots[0]
    if len(roots) > 1 or any(j.units.count(root) > 1 for j in joints):
        return _in_turns(terms, joints, outer, roots, assigner)
    inner = {a: o[1:] for a, o in outer.items() if a is not root}
    terms = [t for t in terms if root in (*t.units, *t.fixed)]

    def pair(i: int, j: int) -> tuple[Permutations, float]:
        of_terms = [term_at(t, root, i, j) for t in terms]
        return solve_jointly(of_terms, [x.at(root, i, j) for x in joints], inner, assigner=assigner)

    n = root.size
    if root not in outer:  # a fixed axis: each of its indices is a problem of its own
        chosen, each = np.arange(n), [pair(i, i) for i in range(n)]
    else:
        pairs = [[pair(i, j) for j in range(n)] for i in range(n)]
        chosen, _ = assigner(np.array([[v for _, v in row] for row in pairs]))
        each = [pairs[i][j] for i, j in enumerate(chosen)]
    found = {a: np.stack([p[a] for p, _ in each], outer[a].index(root)) for a in inner}
    return ({root: chosen} if root in outer else {}) | found, sum(v for _, v in each)


def _in_turns(
    terms: Sequence[Term],
    joints: Sequence[Joint],
    outer: Outer,
    roots: Sequence[Atom],
    assigner: Assign,
) -> tuple[Permutations, float]:
    """Families of groups, each assigned with the others held, from several starts."""
    families = [tuple(a for a in outer if a is r or r in outer[a]) for r in roots]
    best: tuple[Permutations, float] = {}, -math.inf
    for start, order in _starts(families):
        found, value = dict(start), -math.inf
        for _ in range(1 if start else _MAX_TURNS):
            for family in order:
                mine = [t for t in terms if not set(family).isdisjoint((*t.units, *t.fixed))]
                given = {a: p for a, p in found.items() if a not in family or _twice(joints, a)}
                held = [j.terms(family, given, outer) for j in joints]
                all_terms = add_up([*mine, *itertools.chain(*held)])
                found |= solve(all_terms, {a: outer[a] for a in family}, assigner=assigner)[0]
            reached = joint_value(terms, joints, found, outer)
            if reached > best[1]:
                best = dict(found), reached
            if reached <= value + _TOLERANCE * abs(value):
                break
            value = reached
    return best


def _twice(joints: Sequence[Joint], atom: Atom) -> bool:
    return any(j.units.count(atom) > 1 for j in joints)


def _starts(
    families: Sequence[tuple[Atom, ...]],
) -> Iterator[tuple[Permutations, Sequence[tuple[Atom, ...]]]]:
    """Permutations to begin with, and the families to assign in turns from there."""
    small = min(families, key=lambda f: (len(f), f[0].size))
    rest = [f for f in families if f is not small]
    if len(rest) == 1 and len(small) == 1 and small[0].size <= _ENUMERATED:
        for order in itertools.permutations(range(small[0].size)):
            yield {small[0]: np.array(order)}, rest
        return
    for k in range(len(families)):
        yield {}, [*families[k:], *families[:k]]
