"""Exact assignment, alone and for groups inside groups.

A cluster of groups (the heads of an attention layer and the units inside each head, say) is
matched jointly: for each pair of outer units the inner assignment is solved, and its value is
what the outer assignment maximises. Groups on the same arrays that do not depend on each other
are solved in turns.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..network.axes import Atom

# Inner assignments of more units than this are bounded, not solved, while outer pairs are scored.
_EXACT_INNER = 256
_MAX_TURNS = 30
_EPSILON = 0.01
_SINKHORN_ITERATIONS = 2000


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
class Term:
    """A profit for matching units: array of dimensions (fixed…, units of a…, units of b…)."""

    profit: np.ndarray
    fixed: tuple[Atom, ...]
    units: tuple[Atom, ...]


Permutations = dict[Atom, np.ndarray]


def solve(
    terms: Sequence[Term],
    outer: Mapping[Atom, tuple[Atom, ...]],
    *,
    exact: bool = True,
    assigner: Assign = assign,
) -> tuple[Permutations, float]:
    """Permutations that maximise the sum of all terms, and the value reached.

    **Arguments:**
    - `outer`: every atom to match → the atoms its permutation depends on, outermost first
    - `assigner`: solves a single assignment
    - `exact`: False bounds the value of large assignments from above instead of solving them

    **Returns:** atom → index array of shape (*outer sizes, size), value. Exact for a single
    group and for groups that depend on one another; a local optimum for independent groups on
    the same term.
    """
    inside = set(outer)
    roots = list(dict.fromkeys(o for a in outer for o in outer[a] if o not in inside))
    roots += [a for a in outer if not outer[a]]
    if len(roots) == 1:
        return _solve_root(roots[0], add_up(terms), outer, exact, assigner)
    found = {
        a: np.broadcast_to(np.arange(a.size), (*(o.size for o in outer[a]), a.size)).copy()
        for a in outer
    }
    ready: set[Atom] = set()
    best = -np.inf
    for turn in range(_MAX_TURNS):
        for root in roots:
            family = {root, *dependents(root, outer)}
            mine = [t for t in terms if family.intersection((*t.units, *t.fixed))]
            others = {a for t in mine for a in t.units} - family
            usable = [t for t in mine if set(t.units) - family <= ready]
            if turn == 0 and not usable:
                # Nothing to go by yet: let the others differ for each pair of this root's units.
                relaxed = {a: (root, *outer[a]) if a in others else outer[a] for a in
                           (*family, *others) if a in outer}  # fmt: skip
                solved, _ = _solve_root(root, add_up(mine), relaxed, exact, assigner)
                solved = {a: p for a, p in solved.items() if a in family}
            else:
                chosen = usable if turn == 0 else mine
                reduced = [reduce_term(t, set(t.units) - family, found, outer) for t in chosen]
                mine_outer = {a: outer[a] for a in outer if a in family}
                solved, _ = _solve_root(root, add_up(reduced), mine_outer, exact, assigner)
            found.update(solved)
            ready |= family
        value = sum(_value(t, found, outer) for t in terms)
        if value <= best + 1e-12 * abs(best):
            break
        best = value
    return found, best


def dependents(root: Atom, outer: Mapping[Atom, tuple[Atom, ...]]) -> set[Atom]:
    """Every atom that depends on `root`."""
    return {a for a in outer if root in outer[a]}


def _solve_root(
    root: Atom,
    terms: Sequence[Term],
    outer: Mapping[Atom, tuple[Atom, ...]],
    exact: bool,
    assigner: Assign,
) -> tuple[Permutations, float]:
    def inside(terms: list[Term], exact: bool) -> tuple[Permutations, float]:
        return solve(terms, inner, exact=exact, assigner=assigner)

    inner = {a: tuple(o for o in outer[a] if o is not root) for a in dependents(root, outer)}
    own = [t for t in terms if root in (*t.units, *t.fixed)]
    if not own:
        n = root.size
        rest, value = inside(list(terms), exact) if inner else ({}, 0.0)
        stacked = {a: _stack([rest[a]] * n, root, outer[a]) for a in rest}
        return ({root: np.arange(n)} if root in outer else {}) | stacked, value
    if root not in outer:  # a fixed axis: each of its indices is a problem of its own
        solved = [inside([_at(t, root, i, i) for t in own], exact) for i in range(root.size)]
        stacked = {a: _stack([s[a] for s, _ in solved], root, outer[a]) for a in inner}
        return stacked, sum(v for _, v in solved)
    if not inner:
        profits = [t.profit.sum(tuple(range(len(t.fixed)))) if t.fixed else t.profit for t in own]
        profit = sum(profits[1:], profits[0])
        if not exact and root.size > _EXACT_INNER:
            return {root: np.arange(root.size)}, float(np.max(profit, 1).sum())  # type: ignore[arg-type]
        permutation, value = assigner(np.asarray(profit))
        return {root: permutation}, value
    n = root.size
    small = all(a.size <= _EXACT_INNER for a in inner)
    pairs = [[inside([_at(t, root, i, j) for t in own], small) for j in range(n)] for i in range(n)]
    chosen, value = assigner(np.array([[v for _, v in row] for row in pairs]))
    best = [pairs[i][j][0] for i, j in enumerate(chosen)]
    if not small:
        best = [inside([_at(t, root, i, j) for t in own], True)[0] for i, j in enumerate(chosen)]
    stacked = {a: _stack([p[a] for p in best], root, outer[a]) for a in inner}
    return {root: chosen} | stacked, value


def _stack(parts: Sequence[np.ndarray], root: Atom, outer: tuple[Atom, ...]) -> np.ndarray:
    return np.stack(parts, axis=outer.index(root))


def _at(term: Term, root: Atom, i: int, j: int) -> Term:
    """The term with unit i of a's root against unit j of b's (or index i of a fixed axis)."""
    if root in term.fixed:
        k = term.fixed.index(root)
        return Term(np.take(term.profit, i, k), _without(term.fixed, k), term.units)
    k, f, u = term.units.index(root), len(term.fixed), len(term.units)
    profit = np.take(np.take(term.profit, j, f + u + k), i, f + k)
    return Term(profit, term.fixed, _without(term.units, k))


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


def reduce_term(
    term: Term, away: set[Atom], found: Permutations, outer: Mapping[Atom, tuple[Atom, ...]]
) -> Term:
    """The term with the units in `away` matched as found, and summed."""
    if not away:
        return term
    f, u = len(term.fixed), len(term.units)
    gone = [k for k, a in enumerate(term.units) if a in away]
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
    picked = picked.sum(tuple(range(f, f + len(gone))))
    return Term(picked, term.fixed, tuple(term.units[k] for k in kept))


def _value(term: Term, found: Permutations, outer: Mapping[Atom, tuple[Atom, ...]]) -> float:
    return float(np.sum(reduce_term(term, set(term.units), found, outer).profit))


def value_of(
    terms: Sequence[Term], found: Permutations, outer: Mapping[Atom, tuple[Atom, ...]]
) -> float:
    """The sum of all terms at given permutations."""
    return sum(_value(t, found, outer) for t in terms)


def clusters(
    outer: Mapping[Atom, tuple[Atom, ...]], together: Iterable[Sequence[Atom]] = ()
) -> list[list[Atom]]:
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
