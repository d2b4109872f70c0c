"""How permutations are relaxed while they are learned: what is trained, and by which optimiser."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

import jax

from .._lazy import lazily
from ..path import Path, Transported
from ..training.protocol import Protocol
from ..transport.relaxation import project, sinkhorn
from .straight_through import StraightThroughPath

if TYPE_CHECKING:
    import optax
else:
    optax = lazily("optax")


class Relaxation(Interface):
    """What `learn_permutations` takes; a class of one's own needs these two methods."""

    def path(self, start: Transported) -> Path:
        """The path that is trained, from a start whose matrices are permutations.

        It has free points, and `plans()`: group name → doubly stochastic matrices.
        """
        ...

    def optimizer(
        self, protocol: Protocol, steps: int, proximal: float
    ) -> optax.GradientTransformation:
        """What trains it; the same object for the same arguments compiles only once."""
        ...


@dataclasses.dataclass(frozen=True)
class Projection:
    """SGD on doubly stochastic matrices, each step followed by alternating projections.

    With the proximal term 1/(2ν) ‖P − P₀‖² (PAM; tatro2020, App. E.2).
    """

    def path(self, start: Transported) -> Path:
        return start

    def optimizer(
        self, protocol: Protocol, steps: int, proximal: float
    ) -> optax.GradientTransformation:
        plain = dataclasses.replace(
            protocol, momentum=0.0, nesterov=False, weight_decay=0.0, augment=None, attack=None
        )
        return _projected(plain, steps, proximal)


@dataclasses.dataclass(frozen=True)
class SinkhornRelaxation:
    """D = Sinkhorn(M) of free matrices M, by Adam (the idea of Peña et al. 2023; ott-jax).

    - `temperature`: τ of argmax ⟨D, M⟩ + τ H(D)

    **Raises:** `ValueError` for a temperature that is not positive.
    """

    temperature: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive and finite, got {self.temperature}")

    def __call__(self, matrix: jax.Array) -> jax.Array:
        return sinkhorn(matrix, self.temperature)

    def path(self, start: Transported) -> Path:
        return Transported(start.network, start.a, start.b, start.matrices, start.bump, self)

    def optimizer(
        self, protocol: Protocol, steps: int, proximal: float
    ) -> optax.GradientTransformation:
        return _adam(protocol.learning_rate)


@dataclasses.dataclass(frozen=True)
class StraightThrough:
    """P by weight matching to free parameters θ̂, which start at θ_A, by Adam.

    The gradient with respect to Pθ_B is passed on to θ̂ (Git Re-Basin, Alg. 3); a matching every
    step, on the host.
    """

    def path(self, start: Transported) -> Path:
        return StraightThroughPath(start.network, start.a, start.b, start.a, start.bump)

    def optimizer(
        self, protocol: Protocol, steps: int, proximal: float
    ) -> optax.GradientTransformation:
        return _adam(protocol.learning_rate)


def pull_to_start(proximal: float) -> optax.GradientTransformation:
    """Adds the gradient of ‖φ − φ₀‖² / (2ν), φ₀ where the optimisation starts (Eq. 34)."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        pulled = jax.tree.map(lambda u, p, s: u + (p - s) / proximal, updates, params, state)
        return pulled, state

    return optax.GradientTransformation(lambda params: params, update)


@lru_cache(maxsize=16)
def _projected(protocol: Protocol, steps: int, proximal: float) -> optax.GradientTransformation:
    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(lambda u, p: project(p + u) - p, updates, params), state

    projected = optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    return optax.chain(pull_to_start(proximal), protocol.optimizer(steps), projected)


@lru_cache(maxsize=16)
def _adam(learning_rate: float) -> optax.GradientTransformation:
    return optax.adam(learning_rate)
