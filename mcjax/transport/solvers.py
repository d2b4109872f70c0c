"""Solvers of transport problems: frozen values that say how a problem is solved."""

from __future__ import annotations

import abc
import dataclasses
import functools
import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .. import _check
from .exact import assignment, linear_program, scale_of, split
from .problem import Problem
from .solution import ENTROPIC, HEURISTIC, NOT_CONVERGED, OPTIMAL, Solution

# Uniform weights of n and m units are split into lcm(n, m) equal ones if these are no more.
_SPLIT = 4096


@dataclasses.dataclass(frozen=True)
class Search:
    """How groups that stand beside each other are searched, where they are not enumerated.

    - `restarts`: random starts of coordinate ascent, beside those from each group
    - `exchanges`: pairs of units exchanged at most, with the others assigned anew
    """

    restarts: int = 10
    exchanges: int = 2000

    def __post_init__(self) -> None:
        for name in ("restarts", "exchanges"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 0:
                raise ValueError(f"{name} must be an integer ≥ 0, got {value!r}")


@dataclasses.dataclass(frozen=True, repr=False)
class Solver(abc.ABC):
    """How couplings of least cost are found. One's own needs `couple` alone.

    What it returns, `Solution(coupling, value)`, is `"heuristic"` unless it says more, and so is
    whatever is matched with it.

    - `search`: of groups that stand beside each other
    - `work`: what may be spent to prove an assignment of outer units optimal, in operations of
      the assignments inside them
    """

    search: Search = dataclasses.field(default=Search(), kw_only=True)
    work: float = dataclasses.field(default=2e11, kw_only=True)

    def __repr__(self) -> str:
        """What differs from the defaults."""
        fields = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in fields)})"

    def __post_init__(self) -> None:
        if not isinstance(self.search, Search):
            raise ValueError(
                f"search must be a mcjax.transport.Search, got a {type(self.search).__name__}"
            )
        if not self.work > 0:
            raise ValueError(f"work must be positive, got {self.work!r}")

    @abc.abstractmethod
    def couple(self, problem: Problem) -> Solution:
        """A coupling of small cost."""

    def assign(self, profit: np.ndarray) -> tuple[np.ndarray, float, str]:
        """(p, Σ_i profit[i, p[i]], status) with p a permutation of great value.

        By default the permutation nearest to a coupling. Of an optimal coupling that is none it
        is a heuristic: what is nearest may be outside of what the coupling uses.
        """
        scale = scale_of(profit)
        solution = self.couple(Problem(np.multiply(profit, -1 / scale, dtype=np.float64)))
        columns, status = solution.permutation, solution.status
        if columns is None:
            columns = assignment(solution.coupling)
            status = HEURISTIC if status == OPTIMAL else status
        return columns, _picked(profit, columns), status


@dataclasses.dataclass(frozen=True, repr=False)
class Exact(Solver):
    """Optimal couplings: assignments by SciPy, others by linear programming (HiGHS).

    Uniform weights of different numbers of units are split into equal ones and assigned, as long
    as these are few (lcm(n, m) ≤ 4096).

        >>> import mcjax
        >>> mcjax.transport.solve([[1.0, 0.0], [0.0, 1.0]], mcjax.transport.Exact()).permutation
        array([1, 0])
    """

    def assign(self, profit: np.ndarray) -> tuple[np.ndarray, float, str]:
        columns = assignment(profit)
        return columns, _picked(profit, columns), OPTIMAL

    def couple(self, problem: Problem) -> Solution:
        n, m = problem.cost.shape
        if n == m and problem.is_uniform:
            columns = assignment(-problem.cost)
            coupling = np.zeros((n, m))
            coupling[np.arange(n), columns] = problem.a
            return Solution(coupling, problem.value(coupling), OPTIMAL, columns)
        copies = math.lcm(n, m)
        if problem.is_uniform and copies <= _SPLIT:
            coupling = split(problem, copies)
            return Solution(coupling, problem.value(coupling), OPTIMAL)
        return linear_program(problem)


@dataclasses.dataclass(frozen=True, repr=False)
class Sinkhorn(Solver):
    """Entropic couplings, argmin ⟨C, Π⟩ − ε H(Π), by Sinkhorn's iterations (ott-jax).

    Between units the plan is rounded to the nearest permutation. One that has not converged
    warns, and its status says so.

    **Arguments:**
    - `epsilon`: ε, in units of the mean of the costs above the least
    - `iterations`: at most so many
    - `tolerance`: of the sums of rows and columns, in units of the whole weight

        >>> import mcjax
        >>> solution = mcjax.transport.solve([[0.0, 1.0], [1.0, 0.0]],
        ...                                  mcjax.transport.Sinkhorn(epsilon=0.1))
        >>> solution.coupling.round(3).tolist(), solution.status
        ([[0.5, 0.0], [0.0, 0.5]], 'entropic')
    """

    epsilon: float = 0.01
    iterations: int = 2000
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_entropic(epsilon=self.epsilon, tolerance=self.tolerance)
        _check.positive(self.iterations, "iterations")

    def couple(self, problem: Problem) -> Solution:
        return entropic(
            problem, self.epsilon, self.iterations, self.tolerance,
            remedy="more iterations, or mcjax.transport.Exact()",
        )  # fmt: skip


def check_entropic(**options: float) -> None:
    """Raise unless all of these are positive and finite."""
    for name, value in options.items():
        number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
        if not (number and 0 < value < math.inf):
            raise ValueError(f"{name} must be positive and finite, got {value!r}")


def entropic(
    problem: Problem, epsilon: float, iterations: int, tolerance: float, *, remedy: str,
    tau: float = 1.0,
) -> Solution:  # fmt: skip
    """The entropic plan by ott-jax, in float32; one that has not converged warns, with a remedy.

    Costs are counted above the least one, in units of their mean; `tau` = ρ / (ρ + ε) of a penalty
    ρ on sums, 1 where they are to be kept. ott's entropy is −Σ Π log Π; where sums are free it is
    turned into −KL(Π | a bᵀ), which does not grow with the number of units.
    """
    least = problem.cost.min()
    above = problem.cost / 2 - least / 2  # the difference of two finite numbers may overflow
    mean = above.mean()
    cost = (above / mean if mean > 0 else above).astype(np.float32)
    total = problem.a.sum()
    a, b = ((w / total).astype(np.float32) for w in (problem.a, problem.b))
    if tau < 1:
        independent = np.outer(a, b)
        cost = cost - float(epsilon) * np.log(np.where(independent > 0, independent, 1)).astype(
            np.float32
        )
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # for ott
        given = jax.device_put((cost, a, b, np.float32(epsilon), np.float32(tolerance)))
        most = min(iterations, 10**9)  # ott counts in int32
        coupling, converged, steps = jax.device_get(_ott()(*given, most, tau))
    coupling = coupling.astype(np.float64) * total
    # Of costs that are far apart in units of ε the plan may be anything.
    sound = bool(np.isfinite(coupling).all()) and (tau < 1 or coupling.sum() < 2 * total)
    if not sound:
        coupling = np.outer(problem.a, problem.b) / total
    if not (done := bool(converged) and sound):
        warnings.warn(
            f"Sinkhorn has not converged after {iterations} iterations; take a greater epsilon, "
            f"{remedy}",
            stacklevel=3,
        )
    status = ENTROPIC if done else NOT_CONVERGED
    return Solution(coupling, problem.value(coupling), status, iterations=int(steps))


def as_solver(value: Any) -> Solver:
    """`value` if it is a solver; raise with the name of the object that is meant."""
    if isinstance(value, Solver):
        return value
    named = {"exact": "Exact()", "sinkhorn": "Sinkhorn()"}
    if isinstance(value, str) and value in named:
        meant = f"; pass the object mcjax.transport.{named[value]}"
    elif inspect.isclass(value) and issubclass(value, Solver):
        meant = f"; pass an object, {value.__name__}()"
    else:
        meant = ""
    raise ValueError(
        "solver must be a mcjax.transport.Solver, e.g. mcjax.transport.Exact() or "
        f"mcjax.transport.Sinkhorn(epsilon=0.01), got {value!r}{meant}"
    )


def _picked(profit: np.ndarray, columns: np.ndarray) -> float:
    return float(profit[np.arange(len(columns)), columns].sum(dtype=np.float64))


@functools.cache
def _ott() -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """The plan, whether it has converged and after how many iterations; compiled once a shape."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # ott imports jaxopt, which warns
        from ott.geometry.geometry import Geometry
        from ott.solvers import linear

    def plan(
        cost: jax.Array,
        a: jax.Array,
        b: jax.Array,
        epsilon: Any,
        tolerance: Any,
        iterations: int,
        tau: float,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        geometry = Geometry(cost, epsilon=epsilon)
        found: Any = linear.solve(
            geometry, a, b, tau_a=tau, tau_b=tau, threshold=tolerance, max_iterations=iterations
        )
        return found.matrix, found.converged, found.n_iters

    return jax.jit(plan, static_argnums=(5, 6))


def solve(problem: Any, solver: Solver = Exact(), *, a: Any = None, b: Any = None) -> Solution:
    """A coupling of least cost: argmin ⟨C, Π⟩ over Π ≥ 0 with Π 1 = a and Πᵀ 1 = b.

    **Arguments:**
    - `problem`: the costs C, (n, m), or a `Problem`
    - `solver`: `Exact()`, `Sinkhorn(epsilon=…)` or one's own
    - `a`, `b`: weights, (n,) and (m,), of the same sum; default: uniform, of sum 1

    **Returns:** a `Solution`: `.coupling` (n, m), `.value`, `.status`, and `.permutation` where the
    coupling is one.

    **Raises:** `ValueError` for costs or weights that are not finite, negative weights, weights of
    different sums and what is no solver.

        >>> import mcjax
        >>> mcjax.transport.solve([[0.0, 2.0, 1.0]]).coupling.round(2).tolist()
        [[0.33, 0.33, 0.33]]
    """
    solver = as_solver(solver)
    if isinstance(problem, Problem):
        if a is not None or b is not None:
            raise ValueError("a and b: a Problem has its own weights")
        return solver.couple(problem)
    return solver.couple(Problem(problem, a, b))
