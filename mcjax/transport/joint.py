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
from . import rows
from .groups import solve_groups
from .joints import Joint, joint_value
from .solution import BOUND, LOCAL, GroupSolution, worst
from .solvers import Exact, Solver
from .terms import Outer, Permutations, Term, add_up
from .terms import at as term_at

_MAX_TURNS = 30
# Groups of so few units are tried in every order.
_ENUMERATED = 4
# All pairs of outer units are solved to the end if there are so few units in them altogether.
_FEW = 64
_TOLERANCE = 1e-7


@dataclasses.dataclass(frozen=True, eq=False)
class GroupProblem:
    """What is maximised over permutations of groups of units: the sum of terms and blocks.

    - `terms`: profits of matching units
    - `joints`: blocks of both networks, where a profit over all their units would be too large
    - `outer`: every atom to match → the atoms its permutation depends on, outermost first
    """

    terms: Sequence[Term]
    joints: Sequence[Joint]
    outer: Outer

    def value(self, found: Permutations) -> float:
        """The sum at given permutations."""
        return joint_value(self.terms, self.joints, found, self.outer)

    def solve(self, solver: Solver = Exact()) -> GroupSolution:
        """Permutations of great value, see `solve_jointly`."""
        return solve_jointly(self.terms, self.joints, self.outer, solver)


def solve_jointly(
    terms: Sequence[Term],
    joints: Sequence[Joint],
    outer: Outer,
    solver: Solver = Exact(),
    *,
    quick: bool = False,
) -> GroupSolution:
    """Permutations of nested groups that maximise the sum of all terms and blocks.

    Memory is bounded by one outer unit of a with all of b: the profits over the units of one group
    inside them, and the blocks. Without blocks this is `solve_groups`. With them the value of a
    pair is that of a local optimum (the optimum if one of two groups inside has at most four units
    and all are few), and large groups of pairs are scored after one turn and solved to the end
    where they are chosen. For those values the assignment of outer units is optimal.

    **Arguments:**
    - `quick`: stop after one turn

    **Returns:** as `solve_groups`; what is found with blocks is never called optimal
    """
    alone = [j.terms(tuple(outer), {}, outer) for j in joints if not j.crossed(outer)]
    terms = add_up([*terms, *itertools.chain(*alone)])
    joints = [j for j in joints if j.crossed(outer)]
    if not joints:
        return solve_groups(terms, outer, solver)
    roots = list(dict.fromkeys(o[0] if o else a for a, o in outer.items()))
    root = roots[0]
    if len(roots) > 1 or any(j.units.count(root) > 1 for j in joints):
        return _in_turns(terms, joints, outer, roots, solver, quick)
    inner = {a: o[1:] for a, o in outer.items() if a is not root}
    terms = [t for t in terms if root in (*t.units, *t.fixed)]

    def pair(i: int, j: int, quick: bool = quick) -> GroupSolution:
        parts = [term_at(t, root, i, j) for t in terms], [x.at(root, i, j) for x in joints]
        return solve_jointly(*parts, inner, solver, quick=quick)

    n, status = root.size, LOCAL
    if root not in outer:  # a fixed axis: each of its indices is a problem of its own
        chosen, each = np.arange(n), [pair(i, i) for i in range(n)]
    else:
        many = n * max(a.size for a in inner) > _FEW
        if (quick or many) and rows.fits(terms, joints, root, inner):
            pairs = [rows.solve_row(terms, joints, root, i, inner, solver) for i in range(n)]
        else:
            pairs = [[pair(i, j, quick or many) for j in range(n)] for i in range(n)]
        chosen, _, of_root = solver.assign(np.array([[s.value for s in row] for row in pairs]))
        status = worst(status, of_root)
        each = [pairs[i][j] for i, j in enumerate(chosen)]
        if many and not quick:  # values only rise: what has been chosen stays best
            each = [max(e, pair(i, chosen[i]), key=lambda s: s.value) for i, e in enumerate(each)]
    found = {a: np.stack([s.permutations[a] for s in each], outer[a].index(root)) for a in inner}
    found |= {root: chosen} if root in outer else {}
    status = worst(status, *(s.status for s in each))
    return GroupSolution(found, sum(s.value for s in each), status)


def _in_turns(
    terms: Sequence[Term],
    joints: Sequence[Joint],
    outer: Outer,
    roots: Sequence[Atom],
    solver: Solver,
    quick: bool,
) -> GroupSolution:
    """Families of groups, each assigned with the others held, from several starts."""
    families = [tuple(a for a in outer if a is r or r in outer[a]) for r in roots]
    twice = {a for j in joints for a in j.units if j.units.count(a) > 1}
    own = {
        family: [t for t in terms if not set(family).isdisjoint((*t.units, *t.fixed))]
        for family in families
    }
    statuses = {LOCAL}

    def assigned(family: tuple[Atom, ...], found: Permutations) -> Permutations:
        given = {a: p for a, p in found.items() if a not in family or a in twice}
        held = own[family]
        if found or not held:  # else there is better to go by than sorted values
            held = [*held, *itertools.chain(*(j.terms(family, given, outer) for j in joints))]
        mine = {a: outer[a] for a in family}
        solution = solve_groups(add_up(held), mine, solver)
        statuses.add(solution.status)
        return found | solution.permutations

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
        else:
            statuses.update(() if start or quick else (BOUND,))
    return GroupSolution(*best, worst(*statuses))


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
