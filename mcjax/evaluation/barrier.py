"""Barriers of a curve of losses, in the two conventions of the literature."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _check

CONVENTIONS = ("chord", "endpoint")


def barrier(t: Any, loss: Any, convention: str = "chord") -> float:
    """How far the loss rises along a path.

    - `"chord"`: max_t [ℓ(t) − (1 − t) ℓ(0) − t ℓ(1)] (Entezari et al. 2022; ferbach2023)
    - `"endpoint"`: max_t ℓ(t) − max(ℓ(0), ℓ(1)) (Draxler et al. 2018)

    **Arguments:**
    - `t`, `loss`: arrays of shape (T,) with t rising from 0 to 1, T ≥ 2

    **Raises:** `ValueError` if t does not start at 0 and end at 1.

        >>> from mcjax.evaluation import barrier
        >>> barrier([0, 0.5, 1], [1.0, 4.0, 3.0])
        2.0
        >>> barrier([0, 0.5, 1], [1.0, 4.0, 3.0], "endpoint")
        1.0
    """
    _check.one_of(convention, CONVENTIONS, "convention")
    t, loss = np.asarray(t, np.float64), np.asarray(loss, np.float64)
    if t.shape != loss.shape or t.ndim != 1 or t.size < 2 or t[0] != 0 or t[-1] != 1:
        raise ValueError(
            "a barrier needs losses at t rising from 0 to 1, got "
            f"t of shape {t.shape} and loss of shape {loss.shape}"
            + (f" from {t.flat[0]} to {t.flat[-1]}" if t.size else "")
        )
    if convention == "chord":
        return float(np.max(loss - (1 - t) * loss[0] - t * loss[-1]))
    return float(np.max(loss) - max(loss[0], loss[-1]))
