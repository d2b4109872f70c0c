"""The scales and invertible matrices that bring what they act on nearest to a target, on the host.

They multiply incoming weights and divide outgoing ones, so distances are no quadratic functions
of them; signs, permutations and rotations only need inner products (`nearest.py`, `matrices.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_POLISH = 3
_STEPS = 30
_HALVINGS = 30


def nearest_scale(
    squares: Mapping[int, Any], products: Mapping[int, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """argmin_{c > 0} Σ_k ‖a_k − cᵏ b_k‖², elementwise: the best positive root of its derivative.

    Σ_k k (s_k c²ᵏ − p_k cᵏ) = 0 is a polynomial in c, times a power of it: for exponents 1 and
    −1 a quartic. All its roots are looked at.

    **Arguments:**
    - `squares`: exponent k → s_k = ‖b_k‖²
    - `products`: exponent k → p_k = ⟨a_k, b_k⟩; arrays of one shape, the exponents of `squares`

    **Returns:** (c, Σ_k s_k c²ᵏ − 2 p_k cᵏ there); c = 1 where the least value is not attained or
    nothing depends on c

        >>> from mcjax.symmetry.fitting import nearest_scale
        >>> c, _ = nearest_scale({1: [1.0], -1: [4.0]}, {1: [2.0], -1: [2.0]})
        >>> c.tolist()
        [2.0]
    """
    powers = [k for k in squares if k]
    s, p = (np.array([np.asarray(v[k], np.float64) for k in powers]) for v in (squares, products))
    shape = s.shape[1:]
    s, p = s.reshape(len(powers), -1), p.reshape(len(powers), -1)
    exponents = np.array(powers, np.float64)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        guesses = (np.log(np.abs(p)) - np.log(s)) / exponents  # of each exponent by itself
    known = np.isfinite(guesses)
    unit_of_c = np.exp(np.where(known, guesses, 0).sum(0) / np.maximum(known.sum(0), 1))
    s, p = s * unit_of_c ** (2 * exponents), p * unit_of_c**exponents
    largest = np.maximum(s, np.abs(p)).max(0)
    unit = np.where(largest > 0, largest, 1.0)
    s, p = s / unit, p / unit

    def value(c: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            return sum(  # type: ignore[return-value]
                s[i, :, None] * c ** (2 * k) - 2 * p[i, :, None] * c**k
                for i, k in enumerate(powers)
            )

    roots = _positive_roots(powers, s, p)
    candidates = np.concatenate([1 / unit_of_c[:, None], roots], 1)
    values = value(candidates)
    values = np.where(np.isfinite(values), values, np.inf)
    best = values.argmin(1)[:, None]
    c, least = (np.take_along_axis(v, best, 1)[:, 0] for v in (candidates, values))
    return (c * unit_of_c).reshape(shape), (least * unit).reshape(shape)


def _positive_roots(powers: list[int], s: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(problems, degree): the positive roots, 1 in the place of others."""
    shift = max(0, -2 * min(powers))
    degree = shift + max(2 * max(powers), max(powers), 0)
    coefficients = np.zeros((s.shape[1], degree + 1))
    for i, k in enumerate(powers):
        coefficients[:, shift + 2 * k] += k * s[i]
        coefficients[:, shift + k] -= k * p[i]
    low = min(shift + min(k, 2 * k) for k in powers)
    coefficients = coefficients[:, low:]
    roots = _roots(coefficients)
    real = np.abs(np.imag(roots)) <= 1e-5 * np.abs(roots)
    c = np.where(real & (np.real(roots) > 0), np.real(roots), 1.0)
    n = np.arange(coefficients.shape[1])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for _ in range(_POLISH):
            terms = coefficients[:, None, :] * c[:, :, None] ** n
            value, slope = terms.sum(-1), (terms * n).sum(-1) / c
            moved = c - value / slope
            c = np.where(np.isfinite(moved) & (np.abs(moved - c) < 0.1 * c), moved, c)
    return c


def _roots(coefficients: np.ndarray) -> np.ndarray:
    """Roots of polynomials with these rows of coefficients, lowest first; 0 for missing ones."""
    m, n = coefficients.shape
    out = np.zeros((m, n - 1), complex)
    size = np.abs(coefficients).max(1)
    # Of one degree at a time: a leading coefficient that vanishes has no companion matrix.
    kept = np.abs(coefficients) > 1e-14 * np.where(size > 0, size, 1)[:, None]
    degrees = np.where(kept.any(1), n - 1 - kept[:, ::-1].argmax(1), 0)
    for d in np.unique(degrees[degrees > 0]).tolist():
        rows = degrees == d
        own = coefficients[rows, : d + 1]
        companion = np.zeros((len(own), d, d))
        companion[:, np.arange(1, d), np.arange(d - 1)] = 1
        companion[:, :, -1] = -own[:, :-1] / own[:, -1:]
        out[rows, :d] = np.linalg.eigvals(companion)
    return out


def nearest_invertible(a_written: Any, b_written: Any, a_read: Any, b_read: Any) -> np.ndarray:
    """A local minimum of ‖A_w − g B_w‖² + ‖A_r − g⁻ᵀ B_r‖² over invertible g, from g = 1.

    Gauss–Newton: with g = 1 + X the step solves (B_r B_rᵀ) X + X (B_w B_wᵀ) = (A_w − B_w) B_wᵀ −
    B_r (A_r − B_r)ᵀ, and is halved until the distance falls.

    **Arguments:**
    - `a_written`, `b_written`: (…, n, columns), incoming weights of the units
    - `a_read`, `b_read`: (…, n, other columns), outgoing weights

    **Returns:** g, (…, n, n)

        >>> import numpy as np
        >>> from mcjax.symmetry.fitting import nearest_invertible
        >>> g = np.array([[1.0, 0.3], [0.0, 0.8]])
        >>> w, r = np.eye(2), np.array([[1.0, 2.0], [0.5, 0.1]])
        >>> bool(np.allclose(nearest_invertible(g @ w, w, np.linalg.inv(g).T @ r, r), g))
        True
    """
    parts = [np.asarray(v, np.float64) for v in (a_written, b_written, a_read, b_read)]
    n, outer = parts[0].shape[-2], parts[0].shape[:-2]
    flat = [v.reshape(-1, n, v.shape[-1]) for v in parts]
    found = [_invertible(*of) for of in zip(*flat, strict=True)]
    return np.array(found).reshape(*outer, n, n)


def _invertible(aw: np.ndarray, bw: np.ndarray, ar: np.ndarray, br: np.ndarray) -> np.ndarray:
    g, one = np.eye(len(bw)), np.eye(len(bw))
    value = np.vdot(aw - bw, aw - bw) + np.vdot(ar - br, ar - br)
    for _ in range(_STEPS):
        p, u = np.linalg.eigh(br @ br.T)
        q, v = np.linalg.eigh(bw @ bw.T)
        right = (aw - bw) @ bw.T - br @ (ar - br).T
        both = np.maximum(p, 0)[:, None] + np.maximum(q, 0)
        both = np.maximum(both, np.finfo(float).eps * max(both.max(), np.finfo(float).tiny))
        x = u @ ((u.T @ right @ v) / both) @ v.T
        for _ in range(_HALVINGS):
            turn = one + x
            if np.abs(x).max() < 0.9 or np.linalg.cond(turn) < 1e6:
                w, r = turn @ bw, np.linalg.solve(turn.T, br)
                reached = np.vdot(aw - w, aw - w) + np.vdot(ar - r, ar - r)
                if reached <= value:
                    break
            x = x / 2
        else:
            return g
        gain, value = value - reached, reached
        bw, br, g = w, r, turn @ g
        if gain <= 1e-15 * value or np.abs(x).max() < 1e-15:
            break
    return g


__all__ = ["nearest_invertible", "nearest_scale"]
