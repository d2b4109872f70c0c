"""Curvature of paths, and how far a chord may be from its curve (zhao2025, Section 6.2)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import _check
from .._compiled import compiled
from ..path import Path


@_check.on_host
def curvature(path: Path, t: Any) -> tuple[np.ndarray, np.ndarray]:
    """κ = √(‖γ′‖²‖γ″‖² − ⟨γ′, γ″⟩²) / ‖γ′‖³, and the speed ‖γ′‖, in float64.

    Two nested Jacobian-vector products; NaN where the path stands still.

    **Arguments:**
    - `path`: a smooth path of floating-point parameters
    - `t`: (T,) points in [0, 1]; at the ends of a path that is exact there by a choice, derivatives
      are those of a constant: take points between

    **Returns:** (κ, speed), each (T,).

        >>> import jax.numpy as jnp, mcjax
        >>> corners = ([0.0, 0.0], [1.0, 1.0], [2.0, 0.0])
        >>> arc = mcjax.path.Bezier([{"w": jnp.array(v)} for v in corners])
        >>> curvature(arc, [0.5])[0].tolist()  # ‖γ″‖ / ‖γ′‖² = 4 / 2²
        [1.0]
    """
    _check.interval(t)
    with jax.enable_x64(True):
        path = jax.tree.map(_wide, path)
        ts = jnp.asarray(np.atleast_1d(t), float)
        first, second = compiled(_derivatives, of=jax.tree.structure(path))(path, ts)
        first, second = np.asarray(first), np.asarray(second)
    speed = np.linalg.norm(first, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        tangent = first / speed[:, None]
        along = np.sum(tangent * second, -1, keepdims=True)
        return np.linalg.norm(second - along * tangent, axis=-1) / speed**2, speed


@dataclasses.dataclass(frozen=True)
class ChordBound:
    """A bound of the distance from points of a chord to its curve.

    - `distance`: a bound that holds: `formula` if the theorem does, else ‖w₂ − w₁‖ / 2
    - `formula`: d_max of Theorem 6.2, NaN where its root is undefined
    - `status`: "theorem", "longer than π/κ" (the curve may be a major arc), "root undefined"
    """

    distance: float
    formula: float
    status: str

    def loss(self, lipschitz: float) -> float:
        """C_L d: how far the loss on the chord may be from the level (Eq. 9)."""
        return lipschitz * self.distance


def chord_bound(curvature: float, chord: float, length: float) -> ChordBound:
    """d_max = (1 − √(1 − (κ ‖w₂ − w₁‖ / 2)²)) / κ, and whether it holds (zhao2025, Theorem 6.2).

    In print it is claimed of every curve. It is false of one longer than π/κ: of a circle's major
    arc points of the chord are farther than the minor arc's height. Its root is undefined for
    κ ‖w₂ − w₁‖ > 2. What always holds is ‖w₂ − w₁‖ / 2, the distance to the nearer end. A curvature
    that was sampled is a bound only as far as the samples see.

    **Arguments:**
    - `curvature`: κ ≥ 0, an upper bound along the curve
    - `chord`: ‖w₂ − w₁‖
    - `length`: of the curve, at least `chord`

    **Raises:** `ValueError` for negative numbers, NaN, or a curve that is shorter than its chord.

        >>> chord_bound(1.0, 2.0, 3.141)
        ChordBound(distance=1.0, formula=1.0, status='theorem')
        >>> chord_bound(1.0, 0.2, 6.0).status
        'longer than π/κ'
    """
    for name, value in (("curvature", curvature), ("chord", chord), ("length", length)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a finite number ≥ 0, got {value}")
    if length < chord * (1 - 1e-6):
        raise ValueError(f"length: a curve is not shorter than its chord, {length:g} < {chord:g}")
    half = chord / 2
    if curvature * half > 1:
        return ChordBound(half, math.nan, "root undefined")
    formula = curvature * half**2 / (1 + math.sqrt(1 - (curvature * half) ** 2))
    if curvature * length > math.pi:
        return ChordBound(half, formula, "longer than π/κ")
    return ChordBound(formula, formula, "theorem")


def _derivatives(path: Path, ts: Any) -> tuple[Any, Any]:
    """γ′ and γ″, each (T, parameters)."""

    def flat(s: Any) -> Any:
        return ravel_pytree(path.at(s))[0]

    def both(s: Any) -> tuple[Any, Any]:
        one = jnp.ones_like(s)
        return jax.jvp(lambda r: jax.jvp(flat, (r,), (one,))[1], (s,), (one,))

    return jax.vmap(both)(ts)


def _wide(leaf: Any) -> Any:
    real = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return jnp.asarray(np.asarray(leaf), float) if real else leaf


__all__ = ["ChordBound", "chord_bound", "curvature"]
