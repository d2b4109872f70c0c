"""Task vectors trimmed, their signs elected, averaged where they agree (Yadav et al. 2023)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from .. import _check
from .._types import Params
from .problem import Method, Problem, weighted_sum
from .slerp import OVER


@dataclasses.dataclass(frozen=True)
class Ties(Method):
    """base + λ τ, τ made of the task vectors τ_i = θ_i − base in three steps.

    - trim: of each τ_i the largest entries, a share `density` of them, stay; the others become 0
    - elect: s = sgn(Σ_i w_i τ_i), entry by entry
    - merge: τ = Σ_{i: sgn τ_i = s} w_i τ_i / Σ_{i: sgn τ_i = s} w_i, where there are any; 0 else

    Entries as large as the least of those that stay are kept, too.

    - `density`: in (0, 1]; of any one leaf or network an entry stays
    - `scale`: λ
    - `over`: what the largest entries are of: the whole `"network"`, as in the paper, or each
      `"leaf"`, as in mergekit
    """

    density: float = 0.2
    scale: float = 1.0
    over: str = "network"

    label = "TIES"
    source = "Yadav et al. 2023, Alg. 1"
    needs_base = True

    def __post_init__(self) -> None:
        _check.share(self.density, "density")
        _check.real(self.scale, "scale")
        _check.one_of(self.over, OVER, "over")

    def __call__(self, problem: Problem) -> Params:
        least: Any = None
        if self.over == "network" and self.density < 1:
            least = self._least(problem)

        def merged(number, theta, base):
            xp: Any = np if isinstance(theta, np.ndarray) else jnp
            if np.iscomplexobj(theta):
                name = problem.network.leaf_names[number]
                raise ValueError(f"leaf {name!r} is complex: its entries have no signs to elect")
            tau = theta - base
            if self.density < 1:
                size = xp.abs(tau).reshape(len(tau), -1)
                bounds = [largest(v, self.density) for v in size] if least is None else least
                kept = [xp.where(s >= b, v.ravel(), 0) for s, b, v in zip(size, bounds, tau)]
                tau = xp.stack(kept).reshape(tau.shape)
            sign = xp.sign(weighted_sum(problem.weights, tau))
            agree = ((xp.sign(tau) == sign) & (sign != 0)).astype(tau.dtype)
            share = weighted_sum(problem.weights, agree)
            total = weighted_sum(problem.weights, agree * tau)
            return base + self.scale * total / xp.where(share > 0, share, 1)

        return problem.leafwise(merged)

    def _least(self, problem: Problem) -> list[float]:
        """Of each network the size of the least entry that stays."""
        sizes: list[list[np.ndarray]] = [[] for _ in problem.networks]
        for number, theta, base in problem.leaves():
            if number not in problem.network.normalisations.leaves:
                for mine, v in zip(sizes, theta, strict=True):
                    mine.append(np.abs(np.asarray(v - base)).ravel())
        return [largest(np.concatenate(v), self.density) for v in sizes]


def largest(sizes: Any, density: float) -> float:
    """The least of the largest ⌊density · n⌋ of some numbers, of one at least."""
    values = np.asarray(sizes)
    kept = max(1, int(density * values.size))
    return float(np.partition(values, values.size - kept)[values.size - kept])


__all__ = ["Ties", "largest"]
