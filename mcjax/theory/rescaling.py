"""Barriers between a minimum and its rescaling (m W_{l−1}, m^{−k} W_l), σ(c z) = c^k σ(z).

On the segment the outputs are f(α) Y, f(α) = (1 − α + α m^{−k})(1 − α + α m)^k ≥ 1, so the loss is
(f(α) − 1)² ‖Y‖² (zhao2025, Eq. 14), if σ is homogeneous for c > 0. The paper says "for all c",
which excludes its own leaky ReLU. Figure 4 of the paper plots the norm, the root of this loss. The
two are connected by t ↦ (m^t W_{l−1}, m^{−kt} W_l), on which the loss stays 0; the proof names the
segment itself, on which it does not.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

# |log m| below which the maximum's place is a series: the closed form cancels.
_NEAR = 1e-4


def segment_gain(alpha: Any, m: Any, k: float = 1.0) -> Any:
    """f(α) = (1 − α + α m^{−k})(1 − α + α m)^k: by which outputs grow on the segment.

    **Arguments:** numbers or arrays that broadcast, m > 0, k > 0.

        >>> float(segment_gain(0.5, 3.0))  # (1 + 1/3) (1 + 3) / 4
        1.3333...
    """
    return (1 - alpha + alpha * m**-k) * (1 - alpha + alpha * m) ** k


def worst_alpha(m: Any, k: float = 1.0) -> Any:
    """α* = (k(m − 1) − (1 − m^{−k})) / ((k + 1)(m − 1)(1 − m^{−k})): where the loss is highest.

    ½ for k = 1 and at m → 1; the paper always takes ½.

        >>> float(worst_alpha(7.0)), bool(abs(worst_alpha(4.0, 2.0) - 0.5) > 0.1)
        (0.5, True)
    """
    s = jnp.log(m)
    near = jnp.abs(s) < _NEAR
    safe = jnp.where(near, 1.0, s)
    p, q = jnp.expm1(safe), -jnp.expm1(-k * safe)
    return jnp.where(near, 0.5 + (k - 1) * s / 12, (k * p - q) / ((k + 1) * p * q))


def barrier_height(m: Any, k: float = 1.0) -> Any:
    """max_α of the loss on the segment, in units of ‖Y‖²: (f(α*) − 1)² (zhao2025, Prop. 5.3).

    ((m + 1/m − 2) / 4)² for k = 1.

        >>> float(barrier_height(3.0))  # (1/3)²
        0.1111...
    """
    return (segment_gain(worst_alpha(m, k), m, k) - 1) ** 2


def scale_for_barrier(barrier: Any, norm: Any, k: float = 1.0) -> Any:
    """m = (2^{k+1} (√b / ‖Y‖ + 1) − 1)^{−1/k}: the loss at the middle is more than b.

    As in the proof of Prop. 5.3, whose printed exponent k would give a loss below b for some k;
    what solves its Eq. 16 is −1/k.

    **Arguments:**
    - `barrier`: b > 0
    - `norm`: ‖Y‖ > 0
    """
    return (2 ** (k + 1) * (jnp.sqrt(barrier) / norm + 1) - 1) ** (-1 / k)


def bounded_barrier(last: float, before: float, limit: float, norm: float, k: float = 1.0) -> float:
    """b of Prop. 5.6: no segment to a point of the orbit with norms ≤ c has a loss above b.

    (‖W_l‖ / c)^{1/k} ≤ m ≤ c / ‖W_{l−1}‖, and log f is convex in log m with its minimum at m = 1,
    so the highest barrier is at an end of this interval. It is reached: the paper's strict
    inequality is that of any larger b.

    **Arguments:**
    - `last`, `before`: ‖W_l‖ and ‖W_{l−1}‖
    - `limit`: c
    - `norm`: ‖Y‖

    **Raises:** `ValueError` if no point of the orbit has norms ≤ c.

        >>> round(bounded_barrier(1.0, 1.0, 3.0, 1.0), 6)
        0.111111
    """
    low, high = (last / limit) ** (1 / k), limit / before
    if not 0 < low <= high:
        raise ValueError(
            f"limit: no m has both norms ≤ {limit:g}, since (‖W_l‖ / c)^(1/k) = {low:.3g} > "
            f"c / ‖W_(l−1)‖ = {high:.3g}"
        )
    return norm**2 * max(float(barrier_height(m, k)) for m in (low, high))


__all__ = [
    "barrier_height",
    "bounded_barrier",
    "scale_for_barrier",
    "segment_gain",
    "worst_alpha",
]
