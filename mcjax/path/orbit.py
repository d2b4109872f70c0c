"""Curves inside the orbit of a symmetry group (zhao2025, Sec. 6)."""

from __future__ import annotations

from typing import Any

import jax

from .. import _check_model
from .._types import Params
from ..network.action import Action, ActionLogarithm
from ..network.network import Network
from ._base import Path, ended, static, time
from .transformation import Transformation


class Orbit(Path):
    """γ(t) = exp(t log g) · w: from parameters to their transform, always the same function.

    All logarithms are computed once, when the path is made (`mcjax.symmetry.log`, the polar form
    where there is no real logarithm); at each t there are exponentials of numbers, rotations of
    planes, and products.

    **Arguments:**
    - `action`: g, an element that a curve joins to the identity
    - `params`: w
    - `discrete`: what to do with permutations, signs and negative determinants, which no curve
      reaches: None: they are an error; `"first"`: they are applied to w first, and the path begins
      there

    **Raises:** `ValueError` for parameters that are not the network's, and for an action that no
    curve joins to the identity.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> w = {"w1": jnp.ones((1, 2)), "w2": jnp.ones((2, 1))}
        >>> network = mcjax.trace(f, w, jnp.ones((2, 1)))
        >>> g = mcjax.Action.of(network, elements={"w1": {"positive": jnp.array([4.0, 1.0])}})
        >>> mcjax.path.Orbit(g, w)(0.5)["w1"].tolist()
        [[2.0, 1.0]]
    """

    start: Params
    end: Params
    curve: ActionLogarithm
    network: Network = static()

    def __init__(self, action: Action, params: Params, *, discrete: str | None = None) -> None:
        if not isinstance(action, Action):
            raise ValueError(f"action must be a mcjax.Action, got a {type(action).__name__}")
        _check_model.network(action.network)
        action.network.check_parameters(params=params)
        if discrete not in (None, "first"):
            raise ValueError(f"discrete must be None or 'first', got {discrete!r}")
        start = params
        if discrete is not None:
            action, before = action.split()
            start = before(params)
        end = action(start)
        self._set(start=start, end=end, curve=action.log(), network=action.network)

    def at(self, t: Any) -> Params:
        t = time(t)
        return ended(t, self.start, self.curve.applied(t, self.start), self.end)

    def transformed(self) -> Transformation:
        found = self.curve.movers()
        leaves = jax.tree.leaves(self.start)
        return Transformation(
            {i: leaves[i] for i in found},
            {i: mover.axes for i, mover in found.items()},
            {i: mover.cost for i, mover in found.items()},
            lambda t, i, value, dims: self.curve.moved(time(t), found[i], value, dims),
        )

    def mixture(self, coordinates: Any) -> None:
        """The points hold their own statistics, which move with the units."""

    def fixed(self) -> frozenset[int]:
        network = self.network
        moved = {
            leaf
            for name, k in self.curve.logarithms
            for leaf, _ in network.groups[name].structure.factors[k].moves
        }
        return frozenset(range(len(network.leaf_names))) - moved
