"""The mean of networks (Wortsman et al. 2022)."""

from __future__ import annotations

import dataclasses

from .._types import Params
from .problem import Method, Problem


@dataclasses.dataclass(frozen=True)
class Soup(Method):
    """The soup Σ_i w_i θ_i; uniform, 1/n Σ_i θ_i, unless weights are given."""

    label = "Soup"
    source = "Wortsman et al. 2022, Sec. 2"

    def __call__(self, problem: Problem) -> Params:
        return problem.mean()


__all__ = ["Soup"]
