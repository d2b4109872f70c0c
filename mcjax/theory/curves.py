"""Curves that a group draws through a point: exp(t log g) · w (zhao2025, Section 6.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ..path import Path, static
from ..symmetry import Logarithm

# Singular values below this fraction of the largest count as zero in a pseudo-inverse.
CUTOFF = 1e-6


class GroupCurve(Path):
    """γ(t) = g(t) · w with g(t) = exp(t log Q) exp(t log S), g = Q S (zhao2025, Eq. 5).

    The polar form stands in the place of the paper's exp(t log g): det g > 0 does not give g a
    real logarithm. Where the action keeps the loss, it is constant along γ.

    - `params`: w
    - `logarithm`: `mcjax.symmetry.log(g)`
    - `action`: (g, g⁻¹, w) ↦ g · w, a function that is hashable

        >>> import numpy as np, mcjax
        >>> w = (np.eye(2), np.ones((1, 2)))
        >>> g = mcjax.symmetry.log(np.array([[2.0, 1.0], [0.0, 1.0]]))
        >>> v, u = GroupCurve(w, g, act_between)(1.0)
        >>> (u @ v).round(3).tolist()
        [[1.0, 1.0]]
    """

    params: Any
    logarithm: Logarithm
    action: Callable[[Any, Any, Any], Any] = static()

    def at(self, t: Any) -> Any:
        return self.action(self.logarithm.power(t), self.logarithm.inverse_power(t), self.params)


def act_between(g: Any, inverse: Any, params: tuple[Any, Any]) -> tuple[Any, Any]:
    """g · (V, U) = (g V, U g⁻¹): GL(h) between two matrices that are multiplied, U V."""
    v, u = params
    return g @ v, u @ inverse


class ApproximateCurve(Path):
    """γ(t) = g(t) · (V, U) with the map of Eq. 6, g · (V, U) = (g V, U σ(VX) σ(g V X)†).

    It starts at id · w = (V, U σ(VX) σ(VX)†), which is w only if σ(VX) has full row rank (no fewer
    examples than hidden units); else U jumps to the one of least norm with the same outputs.
    Where σ(g V X) has full column rank (no more examples than units) outputs are *exactly* the
    same along γ: so they are in the paper's Figure 3b–c as described (32 units, 8 examples).

    - `params`: (V, U), (h, n) and (m, h)
    - `logarithm`: `mcjax.symmetry.log(g)`
    - `x`: X, (n, N), columns are examples
    - `activation`: σ
    - `cutoff`: of the pseudo-inverse, a fraction of the largest singular value
    """

    params: Any
    logarithm: Logarithm
    x: Any
    activation: Callable[[Any], Any] = static()
    cutoff: float = static(default=CUTOFF)

    def at(self, t: Any) -> Any:
        g = self.logarithm.power(t)
        return approximate_action(g, self.params, self.x, self.activation, cutoff=self.cutoff)


def approximate_action(
    g: Any, params: tuple[Any, Any], x: Any, activation: Callable[[Any], Any], *,
    cutoff: float = CUTOFF,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """g · (V, U) = (g V, U σ(VX) σ(g V X)†), no group action in general (zhao2025, Eq. 6).

    Outputs U σ(VX) change by at most their own norm (Prop. 6.1): what changes them is a
    projection, whatever the cut-off.

    **Arguments:**
    - `g`: (h, h)
    - `params`: (V, U), (h, n) and (m, h)
    - `x`: X, (n, N)
    - `activation`: σ
    - `cutoff`: singular values below this fraction of the largest count as zero

        >>> import jax, jax.numpy as jnp
        >>> v, u, x = jnp.eye(2), jnp.ones((1, 2)), jnp.array([[1.0], [2.0]])
        >>> v2, u2 = approximate_action(2 * jnp.eye(2), (v, u), x, jnp.tanh)
        >>> bool(jnp.allclose(u2 @ jnp.tanh(v2 @ x), u @ jnp.tanh(v @ x), atol=1e-6))
        True
    """
    v, u = params
    moved = g @ v
    inverse = jnp.linalg.pinv(activation(moved @ x), rtol=cutoff)
    return moved, u @ activation(v @ x) @ inverse


__all__ = ["ApproximateCurve", "GroupCurve", "act_between", "approximate_action"]
