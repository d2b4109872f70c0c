"""Paths to B permuted by the matching to parameters that are trained (Git Re-Basin, Alg. 3)."""

from __future__ import annotations

from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check_model
from .._tree import is_inexact
from .._types import Params
from ..network.action import Action
from ..network.network import Network
from ..path import Path, static
from ..path.transported import bent
from .arrays import float_arrays
from .weights import descend


class StraightThroughPath(Path):
    """θ(t) = (1 − t) θ_A + t Pθ_B + 2 t (1 − t) θ̃ with P = argmax ⟨θ̂, Pθ_B⟩ (Git Re-Basin, Alg. 3).

    θ̂ is what `mcjax.fit` trains: the gradient with respect to Pθ_B is passed on to it unchanged,
    and weight matching (on the host) finds P anew at every step.

    **Arguments:**
    - `network`: traced
    - `a`, `b`: end points
    - `target`: θ̂; the paper starts at θ_A
    - `bump`: θ̃, a parameter tree, or None for 0

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
        >>> a = {"w1": jnp.array([[1.0, 3.0]]), "w2": jnp.ones((2, 1))}
        >>> b = {"w1": jnp.array([[3.0, 1.0]]), "w2": jnp.ones((2, 1))}
        >>> network = mcjax.trace(f, a, jnp.ones((2, 1)))
        >>> mcjax.align.StraightThroughPath(network, a, b, a)(1.0)["w1"].tolist()
        [[1.0, 3.0]]
    """

    a: Params
    b: Params
    target: Params
    bump: Params | None
    network: Network = static()

    def __init__(
        self, network: Network, a: Params, b: Params, target: Params, bump: Params | None = None
    ) -> None:
        _check_model.network(network)
        network.check_parameters(a=a, b=b, target=target)
        self._set(network=network, a=a, b=b, target=target, bump=bump)

    def at(self, t: Any) -> Params:
        moved = self.network.permute(self._permutations(), self.b)
        end = jax.tree.map(
            lambda p, v: v + (p - jax.lax.stop_gradient(p)) if is_inexact(v) else v,
            self.target, moved,
        )  # fmt: skip
        return bent(t, self.a, end, self.bump)

    def plans(self) -> dict[str, jax.Array]:
        """The matrices of P."""
        return Action.of(self.network, self._permutations()).matrices()

    def _permutations(self) -> dict[str, jax.Array]:
        shapes = {
            n: jax.ShapeDtypeStruct(g.shape, jnp.int32) for n, g in self.network.groups.items()
        }

        def match(target: Params, b: Params) -> dict[str, np.ndarray]:
            # On the host without JAX: a callback that calls it may wait for itself.
            of_target, of_b = (float_arrays(jax.tree.leaves(p)) for p in (target, b))
            rng = np.random.default_rng([0, 0])
            found = descend(self.network, of_target, of_b, rng).permutations
            return {n: np.asarray(found[n], np.int32) for n in shapes}

        arguments = jax.lax.stop_gradient((self.target, self.b))
        return jax.pure_callback(match, shapes, *arguments, vmap_method="sequential")

    def free(self) -> Params:
        return jax.tree.map(lambda v: v if is_inexact(v) else None, self.target)

    def with_free(self, free: Any) -> Self:
        target = jax.tree.map(
            lambda new, old: old if new is None else new,
            free, self.target, is_leaf=lambda v: v is None,
        )  # fmt: skip
        return self._with(target=target)
