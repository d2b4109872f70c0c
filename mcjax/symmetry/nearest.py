"""The permutation, signed permutation or monomial matrix nearest to a matrix, on the host.

The nearest one in the Frobenius norm is an assignment: of M, of |M| (and the sign of the entry
chosen), of M² (and the entry). `nearest_orthogonal` is its counterpart for rotations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._lazy import lazily

optimize = lazily("scipy.optimize")


def nearest_permutation(matrix: Any) -> np.ndarray:
    """argmin_P ‖M − P‖ over permutation matrices, as index arrays: P[i, p[i]] = 1.

    **Arguments:**
    - `matrix`: M, (…, n, n), finite

    **Returns:** (…, n)

        >>> from mcjax.symmetry.nearest import nearest_permutation
        >>> nearest_permutation([[0.1, -3.0], [-0.2, 0.0]]).tolist()
        [0, 1]
    """
    profit = np.asarray(matrix)
    n = profit.shape[-1]
    flat = [optimize.linear_sum_assignment(m, maximize=True)[1] for m in profit.reshape(-1, n, n)]
    return np.array(flat, np.int32).reshape(profit.shape[:-1])


def nearest_signed_permutation(matrix: Any) -> tuple[np.ndarray, np.ndarray]:
    """(p, s) of the nearest s P with s = ±1: the sign of the entry chosen, 1 where it is 0.

    >>> from mcjax.symmetry.nearest import nearest_signed_permutation
    >>> [v.tolist() for v in nearest_signed_permutation([[0.1, -3.0], [-0.2, 0.0]])]
    [[1, 0], [-1.0, -1.0]]
    """
    p = nearest_permutation(np.abs(matrix))
    return p, np.where(_chosen(np.asarray(matrix), p) < 0, -1.0, 1.0)


def nearest_monomial(matrix: Any, *, positive: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(p, c) of the nearest diag(c) P: the entries chosen.

    **Arguments:**
    - `positive`: over c > 0; where an entry chosen is not, c = 0 is the limit

        >>> from mcjax.symmetry.nearest import nearest_monomial
        >>> [v.tolist() for v in nearest_monomial([[0.1, -3.0], [-0.2, 0.0]])]
        [[1, 0], [-3.0, -0.2]]
    """
    matrix = np.maximum(matrix, 0) if positive else np.asarray(matrix)
    p = nearest_permutation(matrix**2)
    return p, _chosen(matrix, p)


def _chosen(matrix: np.ndarray, p: np.ndarray) -> np.ndarray:
    return np.take_along_axis(matrix, p[..., None], -1)[..., 0]


__all__ = ["nearest_monomial", "nearest_permutation", "nearest_signed_permutation"]
