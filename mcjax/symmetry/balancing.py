"""Scales and matrices that make what they multiply as short as it can be, on the host.

Where c multiplies incoming weights and c⁻ᵏ outgoing ones, the sum of their squares has one least
point over c > 0; with an invertible matrix in the place of c, one up to rotations (Kempf and Ness
1979). So two networks of one orbit, both as short as they can be, differ by signs, permutations
and rotations alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_STEPS = 60
_EXACT = 1e-14
# Matrices of a greater condition are not used: what a Gram of lower rank leaves free stays.
_SINGULAR = 1e-10


def balancing_scale(squares: Mapping[int, Any]) -> np.ndarray:
    """argmin_{c > 0} Σ_k c²ᵏ s_k, elementwise.

    The sum is convex in log c. For exponents of one sign it has no least point: there c makes it
    1. Where all s_k of one sign are 0 but not the others', c = 1: what has no counterpart stays.

    **Arguments:**
    - `squares`: exponent k → s_k ≥ 0, arrays of one shape

        >>> from mcjax.symmetry.balancing import balancing_scale
        >>> balancing_scale({1: [1.0, 0.0], -1: [16.0, 1.0]}).tolist()
        [2.0, 1.0]
        >>> balancing_scale({1: [4.0]}).tolist()
        [0.5]
    """
    powers = [k for k in squares if k]
    sums = np.array([np.asarray(squares[k], np.float64) for k in powers])
    shape = sums.shape[1:]
    sums = sums.reshape(len(powers), -1)
    k = 2.0 * np.array(powers, np.float64)[:, None]
    one_sided = len({v > 0 for v in powers}) < 2
    up, down = sums[k[:, 0] > 0], sums[k[:, 0] < 0]
    free = (sums > 0).any(0) if one_sided else (up > 0).any(0) & (down > 0).any(0)
    with np.errstate(divide="ignore"):
        logs = np.where(free, np.log(sums), 0.0)

    # The largest terms of both sides meet at a first guess; Newton's method from there.
    def sides(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        terms = logs + k * theta
        top = terms.max(0)
        weights = np.exp(terms - top)
        if one_sided:  # log of the sum is 0
            total = weights.sum(0)
            value = top + np.log(total)
            return value, (k * weights).sum(0) / total, np.abs(value)
        # The two halves of the stationarity condition are as large as each other.
        more, less = (
            (k[k[:, 0] > 0] * weights[k[:, 0] > 0]),
            (-k[k[:, 0] < 0] * weights[k[:, 0] < 0]),
        )
        up, down = more.sum(0), less.sum(0)
        value = np.log(up) - np.log(down)
        slope = (k[k[:, 0] > 0] * more).sum(0) / up + (-k[k[:, 0] < 0] * less).sum(0) / down
        return value, slope, np.abs(value)

    theta = np.zeros(sums.shape[1])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for _ in range(_STEPS):
            value, slope, off = sides(theta)
            step = np.where(free & np.isfinite(value) & (off > 0), value / slope, 0.0)
            theta = theta - step
            if (np.abs(step) <= _EXACT).all():
                break
    return np.exp(np.where(free, theta, 0.0)).reshape(shape)


def balancing_matrix(written: Any, read: Any) -> np.ndarray:
    """The symmetric g > 0 that minimises tr(g W gᵀ) + tr(g⁻ᵀ R g⁻¹): there both Grams are equal.

    g² is the geometric mean of W⁻¹ and R, W^{−½} (W^½ R W^½)^½ W^{−½}.

    **Arguments:**
    - `written`, `read`: Gram matrices W and R of the units' incoming and outgoing weights,
      (…, n, n), symmetric

    **Returns:** (…, n, n); the identity where one of them is singular to rounding

        >>> import numpy as np
        >>> from mcjax.symmetry.balancing import balancing_matrix
        >>> balancing_matrix(np.diag([1.0, 4.0]), np.diag([16.0, 4.0])).tolist()
        [[2.0, 0.0], [0.0, 1.0]]
    """
    w, r = (np.asarray(m, np.float64) for m in (written, read))
    n = w.shape[-1]
    w, r, shape = w.reshape(-1, n, n), r.reshape(-1, n, n), w.shape
    good = _regular(w) & _regular(r)
    one = np.eye(n)
    w, r = (np.where(good[:, None, None], m, one) for m in (w, r))
    root, back = _power(w, 0.5), _power(w, -0.5)
    mean = back @ _power(root @ r @ root, 0.5) @ back
    return np.where(good[:, None, None], _power(_symmetric(mean), 0.5), one).reshape(shape)


def _regular(gram: np.ndarray) -> np.ndarray:
    values = np.linalg.eigvalsh(_symmetric(gram))
    return values[:, 0] > _SINGULAR * values[:, -1]


def _power(matrix: np.ndarray, power: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(_symmetric(matrix))
    tiny = np.finfo(np.float64).tiny
    return (vectors * np.maximum(values, tiny)[..., None, :] ** power) @ vectors.swapaxes(-1, -2)


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return (matrix + matrix.swapaxes(-1, -2)) / 2


__all__ = ["balancing_matrix", "balancing_scale"]
