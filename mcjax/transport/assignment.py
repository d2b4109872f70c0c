"""Assignment: one group, and groups inside groups.

A cluster of groups (the heads of an attention layer and the units inside each head, say) is
matched jointly: the profit of a pair of outer units is the value of the inner assignment between
them. Inner assignments are solved lazily: a pair counts with an upper bound until an optimum uses
it, so that the result is exact and most pairs are never solved. Groups on the same arrays that do
not depend on each other are another matter, see `crossed`.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..network.axes import Atom
from .crossed import solve_crossed
from .terms import Outer, Permutations, Term, add_up, at, clusters, families, identity

_EPSILON = 0.01
_SINKHORN_ITERATIONS = 2000
# What may be spent on inner assignments to prove an outer one optimal: each counts size³ and the
# overhead of a small one.
_WORK = 2e11
_OVERHEAD = 2e6


Assign = Callable[[np.ndarray], tuple[np.ndarray, float]]


def assign(profit: np.ndarray) -> tuple[np.ndarray, float]:
    """The permutation p that maximises Σ_i profit[i, p[i]], and its value (SciPy, exact)."""
    rows, columns = linear_sum_assignment(profit, maximize=True)
    return columns, float(profit[rows, columns].sum())


def assign_by_sinkhorn(profit: np.ndarray) -> tuple[np.ndarray, float]:
    """The permutation nearest to the entropic transport plan (ott-jax), and its value.

    The plan minimises ⟨C, Π⟩ − ε H(Π) with C the costs and ε 1 % of their mean; it is rounded by
    an exact assignment on it. A plan that has not converged warns.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # ott imports jaxopt, which warns
        from ott.geometry.geometry import Geometry
        from ott.solvers import linear

    cost: Any = np.asarray(profit.max() - profit, np.float32)
    geometry = Geometry(cost, epsilon=max(_EPSILON * float(cost.mean()), 1e-30))
    result = linear.solve(geometry, max_iterations=_SINKHORN_ITERATIONS)
    if not bool(result.converged):
        warnings.warn(
            f"Sinkhorn has not converged after {_SINKHORN_ITERATIONS} iterations; its plan is "
            "rounded all the same, solver='exact' is safe",
            stacklevel=2,
        )
    columns, _ = assign(np.asarray(result.matrix))
    return columns, float(profit[np.arange(len(columns)), columns].sum())


SOLVERS: dict[str, Assign] = {"exact": assign, "sinkhorn": assign_by_sinkhorn}


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """What a solver found.

    - `permutations`: atom → index array of shape (*outer sizes, size)
    - `value`: the sum of all terms there
    - `exact`: whether no permutations have a greater value; False where that is not proved
    """

    permutations: Permutations
    value: float
    exact: bool


def solve(terms: Sequence[Term], outer: Outer, *, assigner: Assign = assign) -> Solution:
    """Permutations that maximise the sum of all terms.

    **Arguments:**
    - `outer`: every atom to match → the atoms its permutation depends on, outermost first
    - `assigner`: solves a single assignment

    **Returns:** a `Solution`. Exact for a single group, for groups that depend on one another and
    for small independent groups on the same term; larger ones may end in a local optimum, and so
    may outer groups around many large inner ones.
    """
    value = sum(float(t.profit.sum()) for t in terms if not t.units)
    astray = {a for a in outer if not _closed(a, outer)}
    found = identity({a: outer[a] for a in astray})
    exact = not astray
    outer = {a: o for a, o in outer.items() if a not in astray}
    terms = [t for t in terms if astray.isdisjoint(t.units)]
    for cluster in clusters(outer, [t.units for t in terms]):
        mine = [t for t in terms if not set(cluster).isdisjoint(t.units)]
        part = _solve_cluster(add_up(mine), {a: outer[a] for a in cluster}, assigner)
        found |= part.permutations
        value += part.value
        exact &= part.exact
    return Solution(found, value, exact)


def _closed(atom: Atom, outer: Outer) -> bool:
    """Whether an atom depends on what those depend on that it depends on."""
    return all(set(outer.get(o, ())) <= set(outer[atom]) for o in outer[atom])


def _solve_cluster(terms: Sequence[Term], outer: Outer, assigner: Assign) -> Solution:
    if not terms:
        return Solution(identity(outer), 0.0, True)
    found = families(outer)
    for root, family in found.items():
        if len(family) == len(outer):
            return _solve_root(root, terms, outer, assigner)

    def again(terms: Sequence[Term], outer: Outer) -> Solution:
        return solve(terms, outer, assigner=assigner)

    return Solution(*solve_crossed(terms, outer, found, again))


def _solve_root(root: Atom, terms: Sequence[Term], outer: Outer, assigner: Assign) -> Solution:
    """All other atoms depend on the root: one problem for each pair of its units."""
    inner = {a: tuple(o for o in outer[a] if o is not root) for a in outer if a is not root}
    own = [t for t in terms if root in (*t.units, *t.fixed)]
    whole = len(own) == len(terms)
    if root not in outer:  # a fixed axis: each of its indices is a problem of its own
        each = [solve([at(t, root, i, i) for t in own], inner, assigner=assigner)
                for i in range(root.size)]  # fmt: skip
        found = _stacked(each, root, outer)
        return Solution(found, sum(s.value for s in each), whole and all(s.exact for s in each))
    if not inner:
        profits = [t.profit.sum(tuple(range(len(t.fixed)))) if t.fixed else t.profit for t in own]
        permutation, value = assigner(np.asarray(sum(profits[1:], profits[0])))
        return Solution({root: permutation}, value, whole and assigner is assign)
    chosen, each, proved = _solve_pairs(root, own, inner, assigner)
    found = {root: chosen} | _stacked(each, root, outer)
    return Solution(found, sum(s.value for s in each), whole and proved and assigner is assign)


def _solve_pairs(
    root: Atom, terms: Sequence[Term], inner: Outer, assigner: Assign
) -> tuple[np.ndarray, list[Solution], bool]:
    """The best assignment of the root's units: (permutation, inner solutions, proved)."""
    values = np.sum([_bounds(t, root) for t in terms], axis=0)
    cost = root.size * sum(
        math.prod(o.size for o in inner[a]) * (a.size**3 + _OVERHEAD) for a in inner
    )
    rounds = max(3, int(_WORK / cost))
    solved: dict[tuple[int, int], Solution] = {}
    best, best_value = np.arange(root.size), -math.inf
    for _ in range(rounds):
        chosen, _ = assigner(values)
        new = [pair for pair in enumerate(chosen.tolist()) if pair not in solved]
        for i, j in new:
            reduced = [at(t, root, i, j) for t in terms]
            solved[i, j] = solve(reduced, inner, assigner=assigner)
            values[i, j] = solved[i, j].value
        value = float(values[np.arange(root.size), chosen].sum())
        if value > best_value:
            best, best_value = chosen, value
        if not new:  # no pair counts for less than it could be worth
            break
    each = [solved[pair] for pair in enumerate(best.tolist())]
    return best, each, not new and all(s.exact for s in solved.values())


def _bounds(term: Term, root: Atom) -> np.ndarray:
    """For each pair of the root's units at least what the other units can be worth."""
    f, u = len(term.fixed), len(term.units)
    k = term.units.index(root)
    of_a, of_b = ([first + i for i in range(u) if i != k] for first in (f, f + u))
    first = term.profit.max(tuple(of_b), keepdims=True).sum((*range(f), *of_a), keepdims=True)
    second = term.profit.max(tuple(of_a), keepdims=True).sum((*range(f), *of_b), keepdims=True)
    return np.minimum(first, second).reshape(root.size, root.size).astype(np.float64)


def _stacked(each: Sequence[Solution], root: Atom, outer: Outer) -> Permutations:
    """The permutations of each of the root's units as arrays along it."""
    names = each[0].permutations
    return {
        a: np.stack([s.permutations[a] for s in each], axis=outer[a].index(root)) for a in names
    }
