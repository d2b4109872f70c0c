"""Exact solvers as functions of arrays: assignments and linear programs (SciPy)."""

from __future__ import annotations

import numpy as np

from .._lazy import lazily
from .problem import Problem, finite
from .solution import BOUND, OPTIMAL, Solution

optimize = lazily("scipy.optimize")
sparse = lazily("scipy.sparse")
# Rows of a profit so much smaller than the largest are lost in its rounding.
_TINY = 1e-10


def assignment(profit: np.ndarray) -> np.ndarray:
    """The permutation p that maximises Σ_i profit[i, p[i]] (SciPy, exact).

    Units whose profits are lost in the rounding of the others' are assigned among themselves.
    """
    try:
        columns = optimize.linear_sum_assignment(profit, maximize=True)[1]
    except ValueError:
        finite(np.asarray(profit), "the profit of matching units")
        raise
    picked = np.abs(profit[np.arange(len(columns)), columns])
    if picked.min(initial=np.inf) > _TINY * picked.max(initial=0):
        return columns
    return _refined(profit, columns)


def _refined(profit: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The same assignment, with rows of tiny profits assigned again among themselves."""
    sizes = np.abs(profit).max(1, initial=0)
    largest = sizes.max(initial=0)
    while True:
        largest = largest * _TINY
        rows = np.flatnonzero((sizes > 0) & (sizes < largest))
        if len(rows) < 2:
            return columns
        left = profit[np.ix_(rows, columns[rows])].astype(np.float64)
        found = optimize.linear_sum_assignment(left / scale_of(left), maximize=True)[1]
        columns[rows] = columns[rows][found]


def scale_of(profit: np.ndarray) -> float:
    largest = float(np.abs(profit).max())
    return largest if largest > 0 else 1.0


def split(problem: Problem, copies: int) -> np.ndarray:
    """The coupling of uniform weights, each split into equal ones that are assigned."""
    n, m = problem.cost.shape
    rows, columns = np.arange(copies) // (copies // n), np.arange(copies) // (copies // m)
    chosen = assignment(-problem.cost[np.ix_(rows, columns)])
    coupling = np.zeros((n, m))
    np.add.at(coupling, (rows, columns[chosen]), problem.a.sum() / copies)
    return coupling


def linear_program(problem: Problem) -> Solution:
    n, m = problem.cost.shape
    of_rows = sparse.kron(sparse.eye(n), np.ones((1, m)))
    of_columns = sparse.kron(np.ones((1, n)), sparse.eye(m))
    total = problem.a.sum()
    result = optimize.linprog(
        problem.cost.ravel() / scale_of(problem.cost),
        A_eq=sparse.vstack([of_rows, of_columns], "csr"),
        b_eq=np.concatenate([problem.a / total, problem.b / problem.b.sum()]),
        method="highs",
    )
    if result.x is None:
        raise RuntimeError(f"HiGHS found no coupling of {n} and {m} units: {result.message}")
    coupling = np.maximum(result.x, 0).reshape(n, m) * total
    status = OPTIMAL if result.status == 0 else BOUND
    return Solution(coupling, problem.value(coupling), status, iterations=int(result.nit))
