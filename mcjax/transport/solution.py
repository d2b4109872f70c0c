"""What solvers return, and the words for how sure they are of it."""

from __future__ import annotations

import dataclasses

import numpy as np

from .terms import Permutations

OPTIMAL = "optimal"
LOCAL = "local optimum"
BOUND = "stopped at a bound"
ENTROPIC = "entropic"
HEURISTIC = "heuristic"
NOT_CONVERGED = "not converged"

# From the most that can be said of a result to the least.
STATUSES = (OPTIMAL, LOCAL, BOUND, ENTROPIC, HEURISTIC, NOT_CONVERGED)


def worst(*statuses: str) -> str:
    """What can be said of a whole of whose parts these are said; of no parts: `"optimal"`."""
    return max(statuses, key=STATUSES.index, default=OPTIMAL)


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """A coupling of two sets of weights.

    - `coupling`: (n, m), its rows add up to the one's weights, its columns to the other's
    - `value`: ⟨C, Π⟩, the cost of the coupling
    - `status`: `"optimal"` (proved), `"local optimum"`, `"stopped at a bound"` (of iterations),
      `"entropic"` (the optimum of an entropic problem), `"heuristic"` (nothing is proved: the
      default, for solvers of one's own) or `"not converged"`
    - `permutation`: (n,), where each row's weight goes to one column and uniform weights make it a
      permutation; None for any other coupling
    - `iterations`: the solver's, where it counts them

    **Raises:** `ValueError` for a status that is none of these words.
    """

    coupling: np.ndarray
    value: float
    status: str = HEURISTIC
    permutation: np.ndarray | None = None
    iterations: int | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(
                f"status must be one of {', '.join(map(repr, STATUSES))}, got {self.status!r}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class GroupSolution:
    """Permutations of groups of units.

    - `permutations`: atom → index array of shape (*outer sizes, size)
    - `value`: the sum of all terms there
    - `status`: `"optimal"` where no permutations have a greater value and that is proved;
      `"local optimum"` where exchanging and assigning anew found none; `"stopped at a bound"`
      where a search ended before that; `"entropic"` and `"not converged"` of Sinkhorn's plans,
      `"heuristic"` where a solver proves nothing
    """

    permutations: Permutations
    value: float
    status: str

    @property
    def optimal(self) -> bool:
        return self.status == OPTIMAL
