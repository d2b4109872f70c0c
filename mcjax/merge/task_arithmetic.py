"""Task vectors added up (Ilharco et al. 2023)."""

from __future__ import annotations

import dataclasses
from typing import Any

from .. import _check
from .._types import Params
from .problem import Method, Problem, weighted_sum


@dataclasses.dataclass(frozen=True)
class TaskArithmetic(Method):
    """base + λ Σ_i n w_i τ_i of the task vectors τ_i = θ_i − base.

    With equal weights w_i = 1/n that is the sum base + λ Σ_i τ_i; with λ = 1/n the soup. One
    network and λ < 0 forget what it was trained for.

    - `scale`: λ; 0.4 is what Yadav et al. 2023 take where nothing tells
    """

    scale: float = 0.4

    label = "Task arithmetic"
    source = "Ilharco et al. 2023, Sec. 2"
    needs_base = True

    def __post_init__(self) -> None:
        _check.real(self.scale, "scale")

    def __call__(self, problem: Problem) -> Params:
        return problem.leafwise(
            lambda number, theta, base: base + self.scale * summed(problem, theta - base)
        )


def summed(problem: Problem, tau: Any) -> Any:
    """Σ_i n w_i τ_i: the sum where weights are equal."""
    n = len(problem.networks)
    return weighted_sum([n * w for w in problem.weights], tau)


__all__ = ["TaskArithmetic", "summed"]
