"""One turn of matching inside all pairs of a row: one outer unit of a with every one of b.

As `joint.py` scores one pair after the other, with array operations over all of the row: what
inside grouped convolutions is small would be overhead otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..network.axes import Atom
from .joints import Joint
from .solution import LOCAL, GroupSolution, worst
from .solvers import Solver
from .terms import Outer, Permutations, Term


def fits(terms: Sequence[Term], joints: Sequence[Joint], root: Atom, inner: Outer) -> bool:
    """Whether what is inside the root's units are single groups, one on a term."""
    units = [*(t.units for t in terms), *(j.units for j in joints)]
    return (
        not any(inner.values())
        and all(root in u and len(set(u)) == len(u) for u in units)
        and all(len(t.units) <= 2 for t in terms)
    )


def solve_row(
    terms: Sequence[Term],
    joints: Sequence[Joint],
    root: Atom,
    i: int,
    inner: Outer,
    solver: Solver,
) -> list[GroupSolution]:
    """Unit i of a's root matched inside with each unit of b's.

    Each group is assigned once, the others held as far as they are known; where nothing else is,
    by values sorted over the units of the others.
    """
    outer = dict.fromkeys(inner, (root,))
    own = _own(terms, root, i)
    rows = [j.row(root, i) for j in joints]
    found: Permutations = {}
    statuses = {LOCAL}
    for atom in sorted(inner, key=lambda a: a not in own):
        profit = own.get(atom)
        if found or profit is None:
            blocks = [r.terms((atom,), found, outer) for r in rows if atom in r.units]
            held = [t.profit.sum(tuple(range(1, len(t.fixed)))) for part in blocks for t in part]
            profit = sum(held, np.zeros(()) if profit is None else profit)
        shape = (root.size, atom.size, atom.size)
        matched = [solver.assign(p) for p in np.broadcast_to(profit, shape)]
        found[atom] = np.stack([columns for columns, *_ in matched])
        statuses.update(status for *_, status in matched)
    values = sum((r.values(found, outer) for r in rows), own.get(root, np.zeros(root.size)))
    for atom in own.keys() & found.keys():
        picked = np.take_along_axis(own[atom], found[atom][..., None], -1)
        values = values + picked.sum((1, 2), dtype=np.float64)
    status = worst(*statuses)
    return [
        GroupSolution({a: p[j] for a, p in found.items()}, float(values[j]), status)
        for j in range(root.size)
    ]


def _own(terms: Sequence[Term], root: Atom, i: int) -> dict[Atom, np.ndarray]:
    """The group inside of each term (the root itself if none) → profits, a row of the root's."""
    own: dict[Atom, np.ndarray] = {}
    for t in terms:
        k, f, u = t.units.index(root), len(t.fixed), len(t.units)
        profit = t.profit.take(i, f + k).sum(tuple(range(f)))
        profit = np.moveaxis(profit, u - 1 + k, 0)
        (atom,) = [a for a in t.units if a is not root] or [root]
        own[atom] = own[atom] + profit if atom in own else profit
    return own
