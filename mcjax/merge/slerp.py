"""Two networks on the great circle between them (Shoemake 1985)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from .. import _check
from .._types import Params
from .problem import Method, Problem, gram

OVER = ("leaf", "network")
# Below it, as opposite vectors have no one great circle and equal ones no angle, the chord.
_LEAST_SINE = 1e-6


@dataclasses.dataclass(frozen=True)
class Slerp(Method):
    """Spherical interpolation, sin((1 − t) Ω) / sin Ω · a + sin(t Ω) / sin Ω · b.

    Ω is the angle between a and b, t the weight of b. Networks of one norm keep it, while the mean
    of two at right angles has √½ of it.

    - `over`: what has an angle of its own: each `"leaf"`, or the whole `"network"`
    """

    over: str = "leaf"

    label = "SLERP"
    source = "Shoemake 1985"
    pairs_only = True

    def __post_init__(self) -> None:
        _check.one_of(self.over, OVER, "over")

    def __call__(self, problem: Problem) -> Params:
        t, statistics = problem.weights[1], problem.network.normalisations.leaves
        whole = None
        if self.over == "network":
            each = [gram(v) for i, v, _ in problem.leaves() if i not in statistics]
            whole = np.sum(each, 0)

        def merged(number, theta, base):
            first, second = coefficients(gram(theta) if whole is None else whole, t)
            return first * theta[0] + second * theta[1]

        return problem.leafwise(merged)


def coefficients(products: np.ndarray, t: float) -> tuple[float, float]:
    """Those of a and b, from ⟨a, a⟩, ⟨a, b⟩ and ⟨b, b⟩ in a (2, 2) matrix."""
    norms = math.sqrt(products[0, 0]) * math.sqrt(products[1, 1])
    if not norms:
        return 1 - t, t
    angle = math.acos(min(1.0, max(-1.0, products[0, 1] / norms)))
    if math.sin(angle) < _LEAST_SINE:
        return 1 - t, t
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


__all__ = ["OVER", "Slerp", "coefficients"]
