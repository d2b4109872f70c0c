"""Segments and curves whose end moves along its orbit, with the whole group of every unit group."""

from __future__ import annotations

from typing import Any, Self

import jax

from .. import _check_model
from .._tree import is_inexact
from .._types import Params
from ..network.action import Action
from ..network.network import Network
from ..path import Path, static
from ..path.transported import bent
from . import latent

MARGIN = 1.0


class ActionPath(Path):
    """θ(t) = (1 − t) θ_A + t g·θ_B + 2 t (1 − t) θ̃ with g in the network's symmetry group.

    g and, where there is one, the bump θ̃ are what `mcjax.fit` and `train_curve` train: without
    it the segment to the orbit of B is learned, with it a quadratic Bézier curve whose end moves
    along the orbit. g is kept as free arrays, zeros for the identity, and projected in each step:
    permutations and signs by an assignment with straight-through gradients (Git Re-Basin, Alg. 3,
    for the units themselves), orthogonal matrices by their polar factor, scalings by exp.

    **Arguments:**
    - `network`: traced
    - `a`, `b`: end points; b is moved by an aligner's action first, if one is to begin with
    - `bump`: θ̃, a parameter tree to begin with (zeros: the segment), or None for 0, not trained
    - `margin`: by how much what is chosen of a permutation lies above all else at the beginning
    - `latents`: the free arrays of g, default: those of the identity

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
        >>> a = {"w1": jnp.array([[1.0, 3.0]]), "w2": jnp.ones((2, 1))}
        >>> path = mcjax.align.ActionPath(mcjax.trace(f, a, jnp.ones((2, 1))), a, a)
        >>> path(1.0)["w1"].tolist(), path.action()
        ([[1.0, 3.0]], Action(w1: 0 of 2 move, sign))
    """

    a: Params
    b: Params
    latents: Any
    bump: Params | None
    network: Network = static()
    margin: float = static(default=MARGIN)

    def __init__(
        self,
        network: Network,
        a: Params,
        b: Params,
        bump: Params | None = None,
        margin: float = MARGIN,
        latents: latent.Latents | None = None,
    ) -> None:
        _check_model.network(network)
        network.check_parameters(a=a, b=b, **({} if bump is None else {"bump": bump}))
        if not margin > 0:
            raise ValueError(f"margin must be positive, got {margin}")
        held = latent.zeros(network) if latents is None else latents
        self._set(network=network, a=a, b=b, latents=held, bump=bump, margin=float(margin))

    def at(self, t: Any) -> Params:
        moved = latent.act(self.network, self.latents, self.margin, self.b)
        return bent(t, self.a, moved, self.bump)

    def action(self) -> Action:
        """g as an action; works on the host.

        **Raises:** `ValueError` where training has led out of the group: a matrix that is
        singular to rounding, numbers that are not finite.
        """
        return latent.action_of(self.network, self.latents, self.margin)

    def free(self) -> Any:
        bump = jax.tree.map(lambda v: v if is_inexact(v) else None, self.bump)
        return {"latents": self.latents, "bump": bump}

    def with_free(self, free: Any) -> Self:
        bump = jax.tree.map(
            lambda new, old: old if new is None else new,
            free["bump"], self.bump, is_leaf=lambda v: v is None,
        )  # fmt: skip
        return self._with(latents=free["latents"], bump=bump)


__all__ = ["MARGIN", "ActionPath"]
