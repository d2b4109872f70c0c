"""Entries of task vectors dropped at random and the others rescaled (Yu et al. 2024)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from .. import _check
from .._types import Params
from .problem import Method, Problem, traits_of
from .task_arithmetic import TaskArithmetic


@dataclasses.dataclass(frozen=True)
class Dare(Method):
    """Another method, on networks base + m_i ⊙ τ_i / (1 − p) of the task vectors τ_i = θ_i − base.

    The entries of the masks m_i are 0 with probability p, independently, and 1 else; so what is
    merged is each network in expectation.

    - `then`: the method: with `TaskArithmetic()` it is mergekit's dare_linear, with
      `Ties(density=1)` dare_ties
    - `drop`: p in [0, 1)
    """

    then: Any = TaskArithmetic()  # noqa: RUF009  (frozen)
    drop: float = 0.5

    source = "Yu et al. 2024, Sec. 3"
    needs_base = True

    def __post_init__(self) -> None:
        traits_of(self.then, "then")
        if _check.real(self.drop, "drop", 0.0, 1.0) == 1:
            raise ValueError("drop must be less than 1, got 1: nothing would be left")

    @property
    def label(self) -> str:
        return f"DARE, {traits_of(self.then).label}"

    @property
    def needs_inputs(self) -> bool:
        return traits_of(self.then).needs_inputs

    @property
    def needs_labels(self) -> bool:
        return traits_of(self.then).needs_labels

    @property
    def pairs_only(self) -> bool:
        return traits_of(self.then).pairs_only

    @property
    def trains(self) -> bool:
        return traits_of(self.then).trains

    def __call__(self, problem: Problem) -> Params:
        draws, rest = jax.random.split(problem.key)
        networks = tuple(
            self._thinned(problem, i, jax.random.fold_in(draws, i))
            for i in range(len(problem.networks))
        )
        return self.then(dataclasses.replace(problem, networks=networks, key=rest))

    def _thinned(self, problem: Problem, i: int, key: jax.Array) -> Params:
        """Network number i with a part of what it has learned."""
        one = dataclasses.replace(problem, networks=(problem.networks[i],), weights=(1.0,))

        def thin(number, theta, base):
            if number in problem.network.normalisations.leaves:
                return theta[0]
            kept = mask(jax.random.fold_in(key, number), base.shape, self.drop)
            kept = np.asarray(kept) if isinstance(base, np.ndarray) else kept
            return base + kept * (theta[0] - base) / (1 - self.drop)

        return one.leafwise(thin, wide=True)  # in bfloat16 what was learned would be rounded away


def mask(key: jax.Array, shape: tuple[int, ...], drop: float) -> jax.Array:
    """False with probability `drop`."""
    return jax.random.bernoulli(key, 1 - drop, shape)


__all__ = ["Dare", "mask"]
