"""Scales and matrices that make what they multiply as short as it can be, on the host.

Where c multiplies incoming weights and c⁻ᵏ outgoing ones, the sum of their squares has one least
point over c > 0; with an invertible matrix in the place of c, one up to rotations (Kempf and Ness
1979). So two networks of one orbit, both as short as they can be, differ by signs, permutations
and rotations alone.

What is 0 on one side has no least point: a unit that nothing writes, or nothing reads, gets length
1 on the other side. Directions of linear units that nothing reads, or nothing writes, become as
long as the others are in the geometric mean (1 if there are no others): so no representative of an
orbit needs matrices that are singular to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_STEPS = 60
_EXACT = 1e-15
# Eigenvalues of Gram matrices so much smaller than the largest are 0 (float32's rounding, squared).
_RANK = 1e-12


def balancing_scale(squares: Mapping[int, Any]) -> np.ndarray:
    """argmin_{c > 0} Σ_k c²ᵏ s_k, elementwise.

    The sum is convex in log c. Where all s_k of the exponents of one sign are 0 it has no least
    point: there c makes Σ_k abs(k) c²ᵏ s_k 1, and is 1 where all are 0.

    **Arguments:**
    - `squares`: exponent k → s_k ≥ 0, arrays of one shape

        >>> from mcjax.symmetry.balancing import balancing_scale
        >>> balancing_scale({1: [1.0, 0.0], -1: [16.0, 4.0]}).tolist()
        [2.0, 2.0]
        >>> balancing_scale({1: [4.0]}).tolist()
        [0.5]
    """
    sums = {k: np.asarray(v, np.float64) for k, v in squares.items() if k}
    if len(sums) == 2 and min(sums) < 0 < max(sums):
        return _of_two(sums)
    u = np.zeros(np.shape(next(iter(sums.values()))) if sums else ())
    sides = [{k: v for k, v in sums.items() if k * sign > 0} for sign in (1, -1)]
    up, down = (sum((v > 0 for v in of.values()), np.zeros(u.shape, bool)) for of in sides)
    for _ in range(_STEPS):  # Newton's method on the difference of the logarithms of both sides
        (more, rise), (less, fall) = (_log_side(side, u) for side in sides)
        value = np.where(up & down, more - less, np.where(up, more, -less))
        slope = np.where(up & down, rise - fall, np.where(up, rise, -fall))
        step = np.divide(value, slope, out=np.zeros(u.shape), where=up | down)
        u = u - step
        if np.abs(step).max(initial=0) <= _EXACT:
            break
    return np.exp(u)


def _of_two(sums: Mapping[int, np.ndarray]) -> np.ndarray:
    """`balancing_scale` of exponents k > 0 > −m: k s_k c²ᵏ = m s_m c⁻²ᵐ."""
    (down, of_down), (up, of_up) = sorted(sums.items())
    with np.errstate(divide="ignore", invalid="ignore"):
        more, less = np.log(up * of_up), np.log(-down * of_down)
        both = (less - more) / (2 * (up - down))
        one = np.where(of_up > 0, -more / (2 * up), np.where(of_down > 0, less / (2 * -down), 0.0))
    return np.exp(np.where((of_up > 0) & (of_down > 0), both, one))


def _log_side(side: Mapping[int, np.ndarray], u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(log Σ_k |k| s_k e^{2 k u}, its derivative); 0 where all are 0."""
    if not side:
        return np.zeros_like(u), np.zeros_like(u)
    with np.errstate(divide="ignore"):
        terms = np.array([np.log(abs(k) * v) + 2 * k * u for k, v in side.items()])
    top = terms.max(0)
    top = np.where(np.isfinite(top), top, 0)
    parts = np.exp(terms - top)
    total = parts.sum(0)
    powers = 2 * np.array(list(side), float).reshape(-1, *(1,) * u.ndim)
    total = np.where(total == 0, 1, total)
    return np.log(total) + top, (powers * parts).sum(0) / total


def balancing_matrix(written: Any, read: Any) -> np.ndarray:
    """The symmetric g > 0 that minimises tr(g W gᵀ) + tr(g⁻ᵀ R g⁻¹): there both Grams are equal.

    g² = T⁻ᵀ T⁻¹ for a basis T in which both are diagonal: equal where neither is 0, and where the
    other is 0 the geometric mean of these, or 1 (balanced realisations that are not minimal: Zhou,
    Doyle and Glover 1996, Theorem 3.22). For regular ones it is the geometric mean of W⁻¹ and R.

    **Arguments:**
    - `written`, `read`: Gram matrices W and R of the units' incoming and outgoing weights,
      (…, n, n), symmetric

    **Returns:** (…, n, n)

        >>> import numpy as np
        >>> from mcjax.symmetry.balancing import balancing_matrix
        >>> g = balancing_matrix(np.diag([1.0, 4.0, 4.0]), np.diag([16.0, 4.0, 0.0]))
        >>> g.round(9).tolist()
        [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    w, r = (np.asarray(m, np.float64) for m in (written, read))
    n = w.shape[-1]
    return _root(_squares(w.reshape(-1, n, n), r.reshape(-1, n, n))).reshape(w.shape)


def _squares(w: np.ndarray, r: np.ndarray) -> np.ndarray:
    """g² of stacks of Gram matrices; those that are regular at once."""
    sizes, vectors = np.linalg.eigh(w)
    regular = (sizes > _RANK * sizes.max(-1, keepdims=True, initial=0)).all(-1)
    sizes = np.where(regular[:, None], sizes, 1.0)[:, None]
    root, inverse = vectors * np.sqrt(sizes), vectors / np.sqrt(sizes)
    squared, v = np.linalg.eigh(root.swapaxes(1, 2) @ r @ root)
    regular &= (squared > _RANK * squared.max(-1, keepdims=True, initial=0)).all(-1)
    half = inverse @ (v * np.where(regular[:, None], squared, 1.0)[:, None] ** 0.25)
    out = half @ half.swapaxes(1, 2)
    for i in np.flatnonzero(~regular):
        out[i] = _of_lower_rank(w[i], r[i])
    return out


def _of_lower_rank(w: np.ndarray, r: np.ndarray) -> np.ndarray:
    """g² of two Gram matrices."""
    sizes, vectors = np.linalg.eigh(w)
    kept = sizes > _RANK * sizes.max(initial=0)
    root = vectors[:, kept] * np.sqrt(sizes[kept])
    squared, v = np.linalg.eigh(root.T @ r @ root)
    both = squared > _RANK * squared.max(initial=0)
    strength = np.sqrt(squared[both])
    paired = root @ v[:, both] / np.sqrt(strength)
    usual = np.exp(np.log(strength).mean()) if strength.size else 1.0
    only = root @ v[:, ~both] / np.sqrt(usual)  # written, not read
    rest = vectors[:, ~kept]  # not written
    rest = rest - paired @ ((paired.T @ r @ rest) / strength[:, None])
    left, turn = np.linalg.eigh(rest.T @ r @ rest)
    left = np.where(left > _RANK * np.linalg.eigvalsh(r).max(initial=0), left / usual, 1.0)
    inverse = np.linalg.inv(np.concatenate([paired, only, rest @ turn / np.sqrt(left)], 1))
    return inverse.T @ inverse


def _root(matrices: np.ndarray) -> np.ndarray:
    sizes, vectors = np.linalg.eigh((matrices + matrices.swapaxes(-1, -2)) / 2)
    roots = np.sqrt(np.maximum(sizes, np.finfo(np.float64).tiny))[..., None, :]
    return (vectors * roots) @ vectors.swapaxes(-1, -2)


__all__ = ["balancing_matrix", "balancing_scale"]
