"""Couplings of a part of two sets: so many pairs, the others left alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._lazy import lazily
from .problem import finite, real

optimize = lazily("scipy.optimize")


def partial_assignment(profit: Any, pairs: int) -> np.ndarray:
    """argmax Σ_k profit[i_k, j_k] over `pairs` pairs, no row and no column in two of them.

    An assignment of n + m − pairs rows and columns (SciPy, exact): every row that is left alone is
    given one of n − pairs columns without profit, every column one of m − pairs such rows.

    **Arguments:**
    - `profit`: (n, m)
    - `pairs`: from 0 to min(n, m)

    **Returns:** (pairs, 2), row and column, rows in order.

    **Raises:** `ValueError` for what is no matrix of finite numbers, too many pairs.

        >>> from mcjax.transport import partial_assignment
        >>> partial_assignment([[1.0, 0.9, 0.0], [0.8, 0.0, 0.0]], 2).tolist()
        [[0, 1], [1, 0]]
        >>> partial_assignment([[1.0, 0.9, 0.0], [0.8, 0.0, 0.0]], 1).tolist()
        [[0, 0]]
    """
    profit = real(profit, "profit")
    if profit.ndim != 2:
        raise ValueError(f"profit must be a matrix (n, m), got shape {profit.shape}")
    finite(profit, "profit")
    n, m = profit.shape
    if not 0 <= pairs <= min(n, m):
        raise ValueError(f"pairs must lie between 0 and {min(n, m)}, got {pairs!r}")
    whole = np.zeros((n + m - pairs, n + m - pairs))
    whole[:n, :m] = profit
    whole[n:, m:] = -np.inf  # nothing is left alone twice
    rows, columns = optimize.linear_sum_assignment(whole, maximize=True)
    matched = (rows < n) & (columns < m)
    return np.stack([rows[matched], columns[matched]], 1)


__all__ = ["partial_assignment"]
