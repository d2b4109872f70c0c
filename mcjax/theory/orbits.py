"""How far a pair of matrices is from an orbit (B g⁻¹, g C), g in GL(d)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .. import _check


@dataclasses.dataclass(frozen=True)
class OrbitDistance:
    """The nearest point of an orbit that was found.

    - `distance`: ‖W − g · V‖, an upper bound of the distance to the orbit
    - `element`: g, (d, d)
    - `status`: "stationary" if the gradient vanishes there to 1e-5 of its scale (a local minimum:
      the problem is not convex), else "stopped"
    """

    distance: float
    element: np.ndarray
    status: str


@_check.on_host
def distance_to_orbit(
    point: tuple[Any, Any], orbit: tuple[Any, Any], *, steps: int = 500
) -> OrbitDistance:
    """min over g in GL(d) of (‖W₁ − V₁ g⁻¹‖² + ‖W₂ − g V₂‖²)^{1/2} (zhao2025, Prop. 5.5).

    Minimised by L-BFGS in both components of GL(d), from the identity and the least-squares
    solutions of either summand. For W = ((1 − α) W′ + α W″) with W′, W″ in the orbit this is the
    proposition's distance; for n = 1, A = 1 there is `distance_to_hyperbola`. For an attention head
    (Q (n, d), Kᵀ (d, n)) it is the distance from one factorization to the orbit of another. The
    distance between two *orbits* would say nothing: xy = 1 and xy = 2 come as close as one likes.

    **Arguments:**
    - `point`: (W₁, W₂), (n, d) and (d, p)
    - `orbit`: (V₁, V₂), of the same shapes, a point of the orbit
    - `steps`: of L-BFGS, at most, from each start

    **Returns:** an `OrbitDistance`.

    **Raises:** `ValueError` for shapes that do not fit.

        >>> import numpy as np
        >>> v = np.array([[1.0, 2.0], [0.0, 1.0]]), np.eye(2)
        >>> distance_to_orbit((v[0] / 3, 3 * v[1]), v).distance < 1e-5
        True
    """
    from scipy.optimize import minimize

    (w1, w2), (v1, v2) = _pair(point, "point"), _pair(orbit, "orbit")
    if w1.shape != v1.shape or w2.shape != v2.shape:
        raise ValueError(
            f"orbit: expected shapes {w1.shape} and {w2.shape} as point has, got {v1.shape} and "
            f"{v2.shape}"
        )
    d = w1.shape[1]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        g = flat.reshape(d, d)
        try:
            inverse = np.linalg.inv(g)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros_like(flat)
        moved = v1 @ inverse
        off1, off2 = w1 - moved, w2 - g @ v2
        gradient = 2 * (moved.T @ off1 @ inverse.T - off2 @ v2.T)
        return float(np.square(off1).sum() + np.square(off2).sum()), gradient.ravel()

    options = {"maxiter": _check.positive(steps, "steps"), "ftol": 1e-15, "gtol": 1e-10,
               "maxfun": 20 * steps}  # fmt: skip
    found = [minimize(objective, g.ravel(), jac=True, method="L-BFGS-B", options=options)
             for g in _starts(w1, w2, v1, v2)]  # fmt: skip
    best = min(found, key=lambda r: r.fun)
    value, gradient = objective(best.x)
    scale = 1 + np.square(w1).sum() + np.square(w2).sum()
    status = "stationary" if np.abs(gradient).max() <= 1e-5 * scale else "stopped"
    return OrbitDistance(float(np.sqrt(value)), best.x.reshape(d, d), status)


def distance_to_hyperbola(c: float) -> float:
    """The distance of (c, c), c ≥ 1, from xy = 1: √2 (c − 1) if c < 2, else √(c² − 2).

    Prop. 5.5 for n = 1, A = 1, W′ = (β, 1/β), W″ = (1/β, β), α = ½, where c = (β + 1/β) / 2: it
    grows without bound in β.

        >>> distance_to_hyperbola(1.0), round(distance_to_hyperbola(3.0), 4)
        (0.0, 2.6458)
    """
    if not c >= 1:
        raise ValueError(f"c must be (β + 1/β) / 2 ≥ 1 of a β > 0, got {c}")
    return float(2**0.5 * (c - 1) if c < 2 else (c * c - 2) ** 0.5)


def _starts(w1: Any, w2: Any, v1: Any, v2: Any) -> list[np.ndarray]:
    """Elements of both components of GL(d)."""
    d = w1.shape[1]
    sides = [np.eye(d), w2 @ np.linalg.pinv(v2), np.linalg.pinv(np.linalg.pinv(v1) @ w1)]
    flip = np.eye(d)
    flip[0, 0] = -1
    starts = []
    for g in sides:
        u, s, vt = np.linalg.svd(g)
        s = np.maximum(s, 1e-3 * max(s[0], 1e-3))
        starts += [(u * s) @ vt, (u * s) @ flip @ vt]
    return starts


def _pair(pair: tuple[Any, Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    first, second = (np.asarray(v, np.float64) for v in pair)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != len(second):
        raise ValueError(
            f"{name}: expected matrices (n, d) and (d, p), got {first.shape} and {second.shape}"
        )
    return first, second


__all__ = ["OrbitDistance", "distance_to_hyperbola", "distance_to_orbit"]
