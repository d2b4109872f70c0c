"""Optimal transport between two finite sets, as a value."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .._check import is_concrete

_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Couplings Π ≥ 0 of the weights a and b, Π 1 = a and Πᵀ 1 = b, of least cost ⟨C, Π⟩.

    **Arguments:**
    - `cost`: C of shape (n, m), kept in float64
    - `a`, `b`: weights of shapes (n,) and (m,) with the same sum; default: uniform, with the
      other's sum, or with sum 1

    **Raises:** `ValueError` for costs or weights that are not finite, negative weights and weights
    of different sums.

        >>> import numpy as np
        >>> from mcjax.transport import Problem
        >>> Problem(np.eye(2), b=np.array([1.0, 3.0])).a.tolist()
        [2.0, 2.0]
    """

    cost: np.ndarray
    a: np.ndarray = None  # type: ignore[assignment]
    b: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        cost = real(self.cost, "cost")
        if cost.ndim != 2 or not cost.size:
            raise ValueError(f"cost must be a matrix (n, m) with n, m ≥ 1, got shape {cost.shape}")
        finite(cost, "cost")
        a, b = (
            None if weights is None else _weights(weights, size, name)
            for weights, size, name in zip((self.a, self.b), cost.shape, "ab", strict=True)
        )
        total = next((float(w.sum()) for w in (a, b) if w is not None), 1.0)
        a, b = (
            np.full(size, total / size) if w is None else w
            for w, size in zip((a, b), cost.shape, strict=True)
        )
        if not np.isclose(a.sum(), b.sum(), rtol=_TOLERANCE, atol=0):
            raise ValueError(f"a and b have different sums: {a.sum():.6g} and {b.sum():.6g}")
        for name, value in (("cost", cost), ("a", a), ("b", b)):
            object.__setattr__(self, name, value)

    @property
    def is_uniform(self) -> bool:
        """Whether all rows have one weight, and all columns one."""
        return bool((self.a == self.a[0]).all() and (self.b == self.b[0]).all())

    def value(self, coupling: np.ndarray) -> float:
        """⟨C, Π⟩."""
        return float(np.vdot(self.cost, coupling))


def real(value: Any, name: str) -> np.ndarray:
    """A float64 array on the host."""
    if not is_concrete(value):
        raise ValueError(
            f"{name} is being traced (jit, vmap or grad), and solvers run on the host; call them "
            "outside, or relax: mcjax.transport.sinkhorn is an array function"
        )
    try:
        array = np.asarray(value)
        if not np.iscomplexobj(array):
            return np.array(array, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must hold real numbers, got a {type(value).__name__}") from None
    raise ValueError(f"{name} must hold real numbers, got {array.dtype}")


def finite(array: np.ndarray, name: str) -> None:
    """Raise where an entry is NaN or infinite, naming the first."""
    if np.isfinite(array).all():
        return
    bad = np.argwhere(~np.isfinite(array))
    first = bad[0].tolist()
    where = first[0] if len(first) == 1 else f"({', '.join(map(str, first))})"
    raise ValueError(
        f"{name} holds {len(bad)} NaN or infinite values of {array.size}; the first is "
        f"{array[tuple(first)]} at {where}"
    )


def _weights(value: Any, size: int, name: str) -> np.ndarray:
    weights = real(value, name)
    if weights.shape != (size,):
        raise ValueError(f"{name} has shape {weights.shape}, expected ({size},)")
    finite(weights, name)
    if weights.min() < 0:
        raise ValueError(f"{name} must not be negative, got {weights.min():.6g}")
    if not weights.sum() > 0:
        raise ValueError(f"{name} must have a positive sum, got {weights.sum():.6g}")
    return weights
