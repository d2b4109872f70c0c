"""Least squares from normal equations, aware of rank (anokhin2020, Eq. 9 and 10)."""

from __future__ import annotations

import dataclasses

import numpy as np

from .._lazy import lazily
from .._threads import one_if_small

linalg = lazily("scipy.linalg")
# Relative to a unit's own second moment. Products in float32, added up in float64, leave errors
# around 1e-8 of it: a smaller ridge would invert them, a larger one cost residual.
_RIDGE = 1e-9
# Pivots below this share of the unit's second moment are rounding, not information.
_RANK_TOLERANCE = 1e-7
# On so many a second BLAS thread saves no time: on a machine that is busy both spin for seconds.
_FEW_UNITS = 1024


@dataclasses.dataclass(frozen=True)
class Normal:
    """Second moments of a layer's inputs X and of X with the outputs Y that it should have.

    - `gram`: XᵀX, (inputs, inputs); `cross`: XᵀY, (inputs, outputs); `energy`: ‖Y‖²
    """

    gram: np.ndarray
    cross: np.ndarray
    energy: float

    def is_finite(self) -> bool:
        """Whether X and Y are, and their squares: XᵀY is then, too (Cauchy and Schwarz)."""
        return bool(np.isfinite(np.diagonal(self.gram)).all() and np.isfinite(self.energy))


@dataclasses.dataclass(frozen=True)
class Solution:
    """W = X⁺Y, the rank of X and the relative residual ‖XW − Y‖² / ‖Y‖²."""

    weights: np.ndarray
    rank: int
    residual: float


def solve(normal: Normal) -> Solution:
    """min_W ‖X W − Y‖², the solution of (nearly) least norm.

    Units are scaled to second moment one; dead units get weight zero, duplicated ones share
    theirs. A Cholesky factorisation with a ridge of 1e-9 serves as long as the moments are
    positive definite to rounding; if not, eigenvalues below 1e-7 of the largest are cut off.

        >>> x = np.array([[1.0, 1.0], [2.0, 2.0]])  # a duplicated unit
        >>> solution = solve(Normal(x.T @ x, x.T @ x[:, :1], 5.0))
        >>> solution.weights.round(6).ravel().tolist(), solution.rank
        ([0.5, 0.5], 1)
    """
    power = np.diagonal(normal.gram)
    alive = np.flatnonzero(power > 0)
    weights = np.zeros(normal.cross.shape)
    if not len(alive):
        return Solution(weights, 0, 1.0 if normal.energy else 0.0)
    scale = 1 / np.sqrt(power[alive])
    moments = normal.gram if len(alive) == len(power) else normal.gram[np.ix_(alive, alive)]
    scaled = moments * scale
    scaled *= scale[:, None]
    scaled = scaled.T  # it is symmetric, and this is LAPACK's order
    target = normal.cross[alive] * scale[:, None]
    with one_if_small(len(alive), _FEW_UNITS):
        solved, rank = _solved(scaled, target)
        weights[alive] = solved * scale[:, None]
        return Solution(weights, rank, residual(normal, weights))


def _solved(scaled: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, int]:
    """(Solution of scaled · W = target, rank), of a matrix with ones on its diagonal."""
    try:
        ridged = scaled.copy(order="F")
        np.fill_diagonal(ridged, 1 + _RIDGE)
        factor = linalg.cholesky(ridged, overwrite_a=True)
        solved = linalg.cho_solve((factor, False), target)
        # No pivot is below the least eigenvalue 1 / ‖A⁻¹‖₂ ≥ 1 / ‖A⁻¹‖₁, which LAPACK estimates to
        # a small factor in quadratic time: pivoting is for the matrices that this leaves open.
        if linalg.lapack.dpocon(factor, 1.0)[0] > 10 * _RANK_TOLERANCE:
            rank = len(scaled)
        else:
            rank = int(linalg.lapack.dpstrf(scaled, tol=_RANK_TOLERANCE)[2])
    except np.linalg.LinAlgError:
        values, vectors = linalg.eigh(scaled)
        kept = values > _RANK_TOLERANCE * values[-1]
        solved = vectors[:, kept] @ ((vectors[:, kept].T @ target) / values[kept, None])
        rank = int(kept.sum())
    return solved, rank


def residual(normal: Normal, weights: np.ndarray) -> float:
    """‖XW − Y‖² / ‖Y‖², from the moments alone; 0 where Y is zero."""
    if not normal.energy:
        return 0.0
    square = np.sum(weights * (normal.gram @ weights - 2 * normal.cross)) + normal.energy
    return max(float(square) / normal.energy, 0.0)
