"""Paths whose end is B with its units in an order that may be trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import jax

from .. import _check_model
from .._tree import linear_combination
from .._types import Params, Permutations
from ..network.action import Action
from ..network.mixing import Matrices
from ..network.network import Network
from ..transport.relaxation import as_given
from ._base import Path, static, time


class Transported(Path):
    """θ(t) = (1 − t) θ_A + t Dθ_B + 2 t (1 − t) θ̃ (tatro2020, Eq. 35).

    The quadratic Bézier curve with control point ½(θ_A + Dθ_B) + θ̃, where D mixes the units of B.
    The matrices are what `mcjax.fit` trains; `relaxation` makes doubly stochastic ones of them.
    `Transported.between(network, a, b)` begins with permutations.

    **Arguments:**
    - `network`: traced
    - `a`, `b`: end points
    - `matrices`: group name → (*group.shape, size)
    - `bump`: θ̃, a parameter tree, or None for 0
    - `relaxation`: hashable function that makes doubly stochastic matrices of the free ones;
      default: the matrices as they are

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
        >>> a = {"w1": jnp.array([[1.0, 3.0]]), "w2": jnp.ones((2, 1))}
        >>> network = mcjax.trace(f, a, jnp.ones((2, 1)))
        >>> swap = {"w1": jnp.array([[0.0, 1.0], [1.0, 0.0]])}
        >>> mcjax.path.Transported(network, a, a, swap)(1.0)["w1"].tolist()
        [[3.0, 1.0]]
    """

    a: Params
    b: Params
    matrices: Matrices
    bump: Params | None
    network: Network = static()
    relaxation: Callable[[jax.Array], jax.Array] = static()

    def __init__(
        self,
        network: Network,
        a: Params,
        b: Params,
        matrices: Matrices,
        bump: Params | None = None,
        relaxation: Callable[[jax.Array], jax.Array] = as_given,
    ) -> None:
        _check_model.network(network)
        network.check_parameters(a=a, b=b, **({} if bump is None else {"bump": bump}))
        self._set(
            network=network, a=a, b=b, matrices=dict(matrices), bump=bump, relaxation=relaxation
        )

    @classmethod
    def between(
        cls,
        network: Network,
        a: Params,
        b: Params,
        permutations: Permutations | None = None,
        *,
        bump: Params | None = None,
    ) -> Self:
        """The path to Pθ_B, P in the form of matrices.

        **Arguments:**
        - `permutations`: P, default the identity

        **Raises:** `ValueError` for parameters or permutations that are not the network's.
        """
        start = Action.of(network, {} if permutations is None else permutations)
        return cls(network, a, b, start.matrices(), bump)

    def at(self, t: Any) -> Params:
        return bent(t, self.a, self.network.mix(self.plans(), self.b, check=False), self.bump)

    def plans(self) -> dict[str, jax.Array]:
        """The matrices that mix B's units."""
        return {n: self.relaxation(m) for n, m in self.matrices.items()}

    def free(self) -> Matrices:
        return self.matrices

    def with_free(self, free: Any) -> Self:
        return self._with(matrices=free)


def bent(t: Any, a: Params, end: Params, bump: Params | None) -> Params:
    t = time(t)
    if bump is None:
        return linear_combination((1 - t, t), (a, end))
    return linear_combination((1 - t, t, 2 * t * (1 - t)), (a, end, bump))
