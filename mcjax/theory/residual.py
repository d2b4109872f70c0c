"""The minimum of the one-dimensional residual network W₃(W₂W₁x + εx) = y."""

from __future__ import annotations

from typing import Any

import numpy as np


def residual_component_count(epsilon: float) -> int:
    """3 components with a skip connection (ε ≠ 0), 4 without (zhao2025, Prop. 4.3).

    >>> residual_component_count(1.0), residual_component_count(0.0)
    (3, 4)
    """
    return 3 if epsilon else 4


def residual_component(w1: Any, w2: Any, epsilon: float) -> Any:
    """The component of the minimum in which (W₁, W₂, y / (W₂W₁x + εx)) lies (zhao2025, Prop. 4.3).

    W₃ is a function of the others, so the components are those of the plane without the curve
    W₁W₂ = −ε: for ε ≠ 0 the side of the origin, which is star-shaped (0), and the two other
    sides by the sign of W₁ (1 and −1); for ε = 0 the quadrants, sign W₁ + 3 sign W₂. The proof's
    inverse of Eq. 12 has a stray factor ε in print; it is g ↦ (g − εX)(W₂₀W₁₀X)⁻¹, and nothing
    depends on it here.

    **Arguments:**
    - `w1`, `w2`: numbers, or arrays of one shape
    - `epsilon`: ε, the strength of the skip connection

    **Returns:** labels, integers of their shape.

    **Raises:** `ValueError` where W₂W₁ + ε = 0: there is no W₃, and no minimum.

        >>> residual_component([0.0, 2.0, -2.0], [5.0, -2.0, 2.0], 1.0).tolist()
        [0, 1, -1]
    """
    w1, w2 = np.broadcast_arrays(np.asarray(w1, np.float64), np.asarray(w2, np.float64))
    through = w1 * w2 + epsilon
    if (through == 0).any():
        raise ValueError("w1 w2 = −epsilon: no W₃ maps 0 to y, so these are no minima")
    sign = np.sign(w1).astype(int)
    if epsilon == 0:
        return sign + 3 * np.sign(w2).astype(int)
    return np.where(through * np.sign(epsilon) > 0, 0, sign)


__all__ = ["residual_component", "residual_component_count"]
