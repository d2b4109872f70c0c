"""Profits of matching units, as arrays over the units of two networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from ..network.axes import Atom

Permutations = dict[Atom, np.ndarray]
# Every atom to match → the atoms its permutation depends on, outermost first.
Outer = Mapping[Atom, tuple[Atom, ...]]


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
    """A profit for matching units: array of dimensions (fixed…, units of a…, units of b…)."""

    profit: np.ndarray
    fixed: tuple[Atom, ...]
    units: tuple[Atom, ...]


def at(term: Term, root: Atom, i: int, j: int) -> Term:
    """The term with unit i of a's root against unit j of b's (or index i of a fixed axis)."""
    f, u = len(term.fixed), len(term.units)
    index: list[slice | int] = [slice(None)] * term.profit.ndim
    if root in term.fixed:
        k = term.fixed.index(root)
        index[k] = i
        return Term(term.profit[tuple(index)], _without(term.fixed, k), term.units)
    k = term.units.index(root)
    index[f + k], index[f + u + k] = i, j
    return Term(term.profit[tuple(index)], term.fixed, _without(term.units, k))


def _without(items: tuple[Atom, ...], k: int) -> tuple[Atom, ...]:
    return (*items[:k], *items[k + 1 :])


def add_up(terms: Iterable[Term]) -> list[Term]:
    """Terms over the same units added up."""
    grouped: dict[tuple, list[Term]] = {}
    for t in terms:
        grouped.setdefault((t.fixed, t.units), []).append(t)
    out = []
    for (fixed, units), same in grouped.items():
        total = same[0].profit
        if len(same) > 1:
            total = same[0].profit + same[1].profit
        for t in same[2:]:
            total += t.profit
        out.append(Term(total, fixed, units))
    return out


def reduce_term(term: Term, away: Collection[Atom], found: Permutations, outer: Outer) -> Term:
    """The term with the units in `away` matched as found, and summed.

    Units that another one left depends on are not summed: they stay as a fixed axis.
    """
    gone = [k for k, a in enumerate(term.units) if a in away]
    if not gone:
        return term
    f, u = len(term.fixed), len(term.units)
    kept = [k for k, a in enumerate(term.units) if a not in away]
    order = [*range(f), *(f + k for k in gone), *(f + u + k for k in gone),
             *(f + k for k in kept), *(f + u + k for k in kept)]  # fmt: skip
    profit = np.transpose(term.profit, order)
    names = [*term.fixed, *(term.units[k] for k in gone)]
    grid = np.ogrid[tuple(slice(a.size) for a in names)]
    grid = [np.asarray(g) for g in (grid if isinstance(grid, list | tuple) else [grid])]
    index = dict(zip(names, grid, strict=True))
    matched = [found[a][(*(index[o] for o in outer[a]), index[a])] for a in names[f:]]
    picked = profit[(*grid, *matched)]  # (fixed…, gone…, kept of a…, kept of b…)
    followed = {o for k in kept for o in outer[term.units[k]]}
    summed = [k for k, a in enumerate(names) if k >= f and a not in followed]
    fixed = tuple(a for k, a in enumerate(names) if k not in summed)
    return Term(picked.sum(tuple(summed)), fixed, tuple(term.units[k] for k in kept))


def value_of(terms: Sequence[Term], found: Permutations, outer: Outer) -> float:
    """The sum of all terms at given permutations."""
    return sum(float(np.sum(reduce_term(t, t.units, found, outer).profit)) for t in terms)


def identity(outer: Outer) -> Permutations:
    """The permutations that change nothing."""
    return {
        a: np.broadcast_to(np.arange(a.size), (*(o.size for o in outer[a]), a.size)).copy()
        for a in outer
    }


def families(outer: Outer) -> dict[Atom, tuple[Atom, ...]]:
    """Each atom that depends on no other, and each axis given that some follow → its family.

    A family is what a root leaves to be solved for each of its indices, the root included if it
    is to be matched.
    """
    roots = [a for a in outer if not outer[a]]
    roots += dict.fromkeys(o for a in outer for o in outer[a] if o not in outer)
    return {r: tuple(a for a in outer if a is r or r in outer[a]) for r in roots}


def clusters(outer: Outer, together: Iterable[Sequence[Atom]] = ()) -> list[list[Atom]]:
    """Atoms that must be matched jointly: dependent on one another, or on a term together."""
    parent = {a: a for a in outer}

    def root(a: Atom) -> Atom:
        while parent[a] is not a:
            a = parent[a]
        return a

    links = [[a, *(o for o in outer[a] if o in outer)] for a in outer]
    for link in [*links, *together]:
        for other in link[1:]:
            parent[root(other)] = root(link[0])
    groups: dict[Atom, list[Atom]] = {}
    for a in outer:
        groups.setdefault(root(a), []).append(a)
    return list(groups.values())
