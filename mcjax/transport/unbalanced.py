"""Unbalanced transport: mass that would have to go far may stay behind."""

from __future__ import annotations

import dataclasses

from .. import _check
from .problem import Problem
from .solution import Solution
from .solvers import check_entropic, entropic


@dataclasses.dataclass(frozen=True)
class Unbalanced:
    """argmin ⟨C, Π⟩ + ρ KL(Π 1 | a) + ρ KL(Πᵀ 1 | b) + ε KL(Π | a bᵀ), by ott-jax.

    Chizat et al. 2018. KL(p | q) = Σ p log(p / q) − p + q, weights in units of their sum. Sums of
    rows and columns need not be the weights, so what comes out is no coupling, no
    `mcjax.transport.Solver`, and its cost no distance. Of two units that are at c from each other
    and far from all others, exp(−c / 2ρ) of the mass goes as ε → 0. Keep ε well below ρ: of n units
    that each go to one, n^{−ε / 2ρ} of the mass goes.

    **Arguments:**
    - `penalty`: ρ, and `epsilon`: ε, in units of the mean of the costs; costs count above the least
    - `iterations`: at most so many
    - `tolerance`: of the change of the potentials between iterations

    **Raises:** `ValueError` for numbers that are not positive and finite.

        >>> import numpy as np
        >>> from mcjax.transport import Problem, Unbalanced
        >>> costs = np.array([[0.0, 9.0], [9.0, 9.0]])  # the second units are far from everything
        >>> found = Unbalanced(penalty=0.2, epsilon=0.01).couple(Problem(costs))
        >>> found.coupling.round(2).tolist(), found.status
        ([[0.49, 0.0], [0.0, 0.02]], 'entropic')
    """

    penalty: float = 0.1
    epsilon: float = 0.001
    iterations: int = 10_000
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        check_entropic(penalty=self.penalty, epsilon=self.epsilon, tolerance=self.tolerance)
        _check.positive(self.iterations, "iterations")

    def couple(self, problem: Problem) -> Solution:
        """What goes from where to where, (n, m), of a problem's costs and weights."""
        return entropic(
            problem, self.epsilon, self.iterations, self.tolerance,
            remedy="or more iterations", tau=self.penalty / (self.penalty + self.epsilon),
        )  # fmt: skip


__all__ = ["Unbalanced"]
