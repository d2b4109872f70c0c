"""Blocks of two networks' parameters on which several groups stand, in the place of a profit."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from ..network.axes import Atom
from .terms import Outer, Permutations, Term, value_of


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

    def row(self, root: Atom, i: int) -> Joint:
        """Unit i of a's root against each unit of b's, which is a first fixed axis then."""
        k = self.units.index(root)
        axis = len(self.fixed) + k
        b = np.moveaxis(self.b, axis, 0)
        a = np.broadcast_to(self.a.take(i, axis), b.shape)
        units = (*self.units[:k], *self.units[k + 1 :])
        axes = (*self.axes[:k], *self.axes[k + 1 :])
        return Joint(a, b, (root, *self.fixed), units, axes)

    def crossed(self, outer: Outer) -> bool:
        """Whether groups to match stand here that do not depend on each other."""
        return crossed([a for a in self.units if a in outer], outer)

    def value(self, found: Permutations, outer: Outer) -> float:
        """The inner product where all units are matched as found."""
        return float(np.sum(self._term((), found, outer).profit))

    def values(self, found: Permutations, outer: Outer) -> np.ndarray:
        """The inner products for each index of the first fixed axis."""
        profit = self._term((), found, outer).profit
        return profit.reshape(len(profit), -1).sum(1, dtype=np.float64)

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
