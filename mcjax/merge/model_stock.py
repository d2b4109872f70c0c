"""Fine-tuned networks and their base, weighted by the angle between them (Jang et al. 2024)."""

from __future__ import annotations

import dataclasses

import numpy as np

from .._types import Params
from .problem import Method, Problem, gram, weighted_sum


@dataclasses.dataclass(frozen=True)
class ModelStock(Method):
    """t Σ_i w_i θ_i + (1 − t) base, t = N cos θ / (1 + (N − 1) cos θ) of each leaf.

    θ is the angle between the task vectors θ_i − base: cos θ the mean over all pairs of N
    networks, at least 0, so that nothing is moved beyond the base. It is the point closest to the
    centre of the shell on which networks of other seeds would lie.
    """

    label = "Model stock"
    source = "Jang et al. 2024, Sec. 4"
    needs_base = True

    def __call__(self, problem: Problem) -> Params:
        n = len(problem.networks)
        if n < 2:
            raise ValueError("networks: model stock needs at least two, for the angle between them")

        def merged(number, theta, base):
            cosine = max(mean_cosine(gram(theta - base)), 0.0)
            t = n * cosine / (1 + (n - 1) * cosine)
            return t * weighted_sum(problem.weights, theta) + (1 - t) * base

        return problem.leafwise(merged)


def mean_cosine(products: np.ndarray) -> float:
    """The mean over all pairs of ⟨v_i, v_j⟩ / (‖v_i‖ ‖v_j‖), 0 where one is 0."""
    norms = np.sqrt(np.diagonal(products))
    sizes = np.outer(norms, norms)
    cosines = np.divide(products, sizes, out=np.zeros_like(products), where=sizes > 0)
    return float(cosines[np.triu_indices(len(products), 1)].mean())


__all__ = ["ModelStock", "mean_cosine"]
