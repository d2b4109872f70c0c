"""Groups inside groups: one assignment for each pair of outer units.

A cluster of groups (the heads of an attention layer and the units inside each head, say) is
matched jointly: the profit of a pair of outer units is the value of the inner assignment between
them. Inner assignments are solved lazily: a pair counts with an upper bound until an optimum uses
it, so that the result is optimal and most pairs are never solved. Groups on the same arrays that
do not depend on each other are another matter, see `crossed`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from ..network.axes import Atom
from .crossed import solve_crossed
from .solution import BOUND, LOCAL, OPTIMAL, GroupSolution, worst
from .solvers import Exact, Solver
from .terms import Outer, Permutations, Term, add_up, at, clusters, families, identity

# What a small assignment costs, in the operations that a large one does.
_OVERHEAD = 2e6


def solve_groups(terms: Sequence[Term], outer: Outer, solver: Solver = Exact()) -> GroupSolution:
    """Permutations that maximise the sum of all terms.

    **Arguments:**
    - `outer`: every atom to match → the atoms its permutation depends on, outermost first
    - `solver`: of the single assignments, and how groups beside each other are searched

    **Returns:** a `GroupSolution`. Optimal (with `Exact`) for a single group, for groups that
    depend on one another and for small independent groups on the same term; larger ones may end in
    a local optimum. A search that stops before its end says so, and so does the proof for outer
    groups around many large inner ones.
    """
    value = sum(float(t.profit.sum()) for t in terms if not t.units)
    astray = {a for a in outer if not _closed(a, outer)}
    found = identity({a: outer[a] for a in astray})
    status = LOCAL if astray else OPTIMAL
    outer = {a: o for a, o in outer.items() if a not in astray}
    terms = [t for t in terms if astray.isdisjoint(t.units)]
    for cluster in clusters(outer, [t.units for t in terms]):
        mine = [t for t in terms if not set(cluster).isdisjoint(t.units)]
        part = _solve_cluster(add_up(mine), {a: outer[a] for a in cluster}, solver)
        found |= part.permutations
        value += part.value
        status = worst(status, part.status)
    return GroupSolution(found, value, status)


def _closed(atom: Atom, outer: Outer) -> bool:
    """Whether an atom depends on what those depend on that it depends on."""
    return all(set(outer.get(o, ())) <= set(outer[atom]) for o in outer[atom])


def _solve_cluster(terms: Sequence[Term], outer: Outer, solver: Solver) -> GroupSolution:
    if not terms:
        return GroupSolution(identity(outer), 0.0, OPTIMAL)
    found = families(outer)
    for root, family in found.items():
        if len(family) == len(outer):
            return _solve_root(root, terms, outer, solver)

    def again(terms: Sequence[Term], outer: Outer) -> GroupSolution:
        return solve_groups(terms, outer, solver)

    return solve_crossed(terms, outer, found, again, solver.search)


def _solve_root(root: Atom, terms: Sequence[Term], outer: Outer, solver: Solver) -> GroupSolution:
    """All other atoms depend on the root: one problem for each pair of its units."""
    inner = {a: tuple(o for o in outer[a] if o is not root) for a in outer if a is not root}
    own = [t for t in terms if root in (*t.units, *t.fixed)]
    whole = OPTIMAL if len(own) == len(terms) else LOCAL
    if root not in outer:  # a fixed axis: each of its indices is a problem of its own
        each = [solve_groups([at(t, root, i, i) for t in own], inner, solver)
                for i in range(root.size)]  # fmt: skip
        solution = beside(each, root, outer)
        return dataclasses.replace(solution, status=worst(whole, solution.status))
    if not inner:
        profits = [t.profit.sum(tuple(range(len(t.fixed)))) if t.fixed else t.profit for t in own]
        permutation, value, status = solver.assign(np.asarray(sum(profits[1:], profits[0])))
        return GroupSolution({root: permutation}, value, worst(whole, status))
    chosen, each, status = _solve_pairs(root, own, inner, solver)
    found = {root: chosen} | _stacked(each, root, outer)
    return GroupSolution(found, sum(s.value for s in each), worst(whole, status))


def _solve_pairs(
    root: Atom, terms: Sequence[Term], inner: Outer, solver: Solver
) -> tuple[np.ndarray, list[GroupSolution], str]:
    """The best assignment of the root's units: (permutation, inner solutions, status)."""
    values = np.sum([_bounds(t, root) for t in terms], axis=0)
    cost = root.size * sum(
        math.prod(o.size for o in inner[a]) * (a.size**3 + _OVERHEAD) for a in inner
    )
    rounds = max(3, int(solver.work / cost))
    solved: dict[tuple[int, int], GroupSolution] = {}
    best, best_value, status, new = np.arange(root.size), -math.inf, OPTIMAL, []
    for _ in range(rounds):
        chosen, _, of_root = solver.assign(values)
        status = worst(status, of_root)
        new = [pair for pair in enumerate(chosen.tolist()) if pair not in solved]
        for i, j in new:
            reduced = [at(t, root, i, j) for t in terms]
            solved[i, j] = solve_groups(reduced, inner, solver)
            values[i, j] = solved[i, j].value
        value = float(values[np.arange(root.size), chosen].sum())
        if value > best_value:
            best, best_value = chosen, value
        if not new:  # no pair counts for less than it could be worth
            break
    each = [solved[pair] for pair in enumerate(best.tolist())]
    status = worst(status, BOUND if new else OPTIMAL, *(s.status for s in solved.values()))
    return best, each, status


def _bounds(term: Term, root: Atom) -> np.ndarray:
    """For each pair of the root's units at least what the other units can be worth."""
    f, u = len(term.fixed), len(term.units)
    k = term.units.index(root)
    of_a, of_b = ([first + i for i in range(u) if i != k] for first in (f, f + u))
    first = term.profit.max(tuple(of_b), keepdims=True).sum((*range(f), *of_a), keepdims=True)
    second = term.profit.max(tuple(of_a), keepdims=True).sum((*range(f), *of_b), keepdims=True)
    return np.minimum(first, second).reshape(root.size, root.size).astype(np.float64)


def beside(each: Sequence[GroupSolution], root: Atom, outer: Outer) -> GroupSolution:
    """Solutions at each index of an axis, as one along it."""
    status = worst(*(s.status for s in each))
    return GroupSolution(_stacked(each, root, outer), sum(s.value for s in each), status)


def _stacked(each: Sequence[GroupSolution], root: Atom, outer: Outer) -> Permutations:
    """The permutations of each of the root's units as arrays along it."""
    names = each[0].permutations
    return {
        a: np.stack([s.permutations[a] for s in each], axis=outer[a].index(root)) for a in names
    }
