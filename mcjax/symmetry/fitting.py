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
_LEAST = 1e-15


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


def nearest_invertible(
    a_written: Any, b_written: Any, a_read: Any, b_read: Any, *, gain: float = _LEAST
) -> np.ndarray:
    """A local minimum of ‖A_w − g B_w‖² + ‖A_r − g⁻ᵀ B_r‖² over invertible g, from g = 1.

    Gauss–Newton: with g = 1 + X the step solves (B_r B_rᵀ) X + X (B_w B_wᵀ) = (A_w − B_w) B_wᵀ −
    B_r (A_r − B_r)ᵀ, and is halved until the distance falls.

    **Arguments:**
    - `a_written`, `b_written`: (…, n, columns), incoming weights of the units
    - `a_read`, `b_read`: (…, n, other columns), outgoing weights
    - `gain`: a step that makes the distance smaller by no more than this part of it is the last

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
    aw, bw, ar, br = (v.reshape(-1, n, v.shape[-1]) for v in parts)
    (aw, bw), (ar, br) = _few_columns(aw, bw), _few_columns(ar, br)
    g = np.broadcast_to(np.eye(n), (len(aw), n, n)).copy()
    value = _squared(aw - bw) + _squared(ar - br)
    todo = np.arange(len(g))
    for _ in range(_STEPS):
        x = _step(aw[todo], bw[todo], ar[todo], br[todo])
        left = np.arange(len(todo))
        moved = np.zeros(len(todo), bool)
        for _ in range(_HALVINGS):
            at, turn = todo[left], np.eye(n) + x[left]
            w, r = turn @ bw[at], np.linalg.solve(turn.swapaxes(1, 2), br[at])
            reached = _squared(aw[at] - w) + _squared(ar[at] - r)
            good = (reached <= value[at]) & _safe(x[left])
            moved[left[good]] = reached[good] < (1 - gain) * value[at[good]]
            at, turn = at[good], turn[good]
            bw[at], br[at], value[at], g[at] = w[good], r[good], reached[good], turn @ g[at]
            left = left[~good]
            if not len(left):
                break
            x[left] /= 2
        todo = todo[moved & (np.abs(x).max((1, 2), initial=0) >= _LEAST)]
        if not len(todo):
            break
    return g.reshape(*outer, n, n)


def _few_columns(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the same inner products, in no more columns than there are rows of both."""
    n = a.shape[1]
    both = np.concatenate([a, b], 1)
    if both.shape[2] > 2 * n:
        both = np.asarray(np.linalg.qr(both.swapaxes(1, 2), mode="r")).swapaxes(1, 2)
    return both[:, :n], both[:, n:].copy()


def _squared(v: np.ndarray) -> np.ndarray:
    return np.einsum("...ij,...ij->...", v, v)


def _safe(x: np.ndarray) -> np.ndarray:
    """Whether 1 + x is far from singular."""
    safe = np.abs(x).max((1, 2), initial=0) < 0.9
    if not safe.all():
        safe[~safe] = np.linalg.cond(np.eye(x.shape[-1]) + x[~safe]) < 1e6
    return safe


def _step(aw: np.ndarray, bw: np.ndarray, ar: np.ndarray, br: np.ndarray) -> np.ndarray:
    """The step X of each problem, a Sylvester equation with symmetric sides."""
    to = bw.swapaxes(1, 2)
    p, u = np.linalg.eigh(br @ br.swapaxes(1, 2))
    q, v = np.linalg.eigh(bw @ to)
    right = (aw - bw) @ to - br @ (ar - br).swapaxes(1, 2)
    both = np.maximum(p, 0)[:, :, None] + np.maximum(q, 0)[:, None, :]
    eps, tiny = np.finfo(float).eps, np.finfo(float).tiny
    both = np.maximum(both, eps * np.maximum(both.max((1, 2), keepdims=True, initial=0), tiny))
    return u @ ((u.swapaxes(1, 2) @ right @ v) / both) @ v.swapaxes(1, 2)


__all__ = ["nearest_invertible", "nearest_scale"]
