"""Permutations near a doubly stochastic matrix (tatro2020, App. E.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .exact import assignment
from .relaxation import doubly_stochastic

# Entries below are taken for zeros that projections and float32 have left.
_TOLERANCE = 1e-6


def birkhoff(matrix: Any, terms: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The first terms of a greedy Birkhoff–von Neumann decomposition D = Σ_i α_i P_i.

    P_i = argmax ⟨P, D^(i)⟩ over the perfect matchings on the nonzero entries of the rest D^(i)
    (Eq. 54), α_i its least entry; D^(i+1) = D^(i) − α_i P_i. Only the terms asked for are
    computed.

    **Arguments:**
    - `matrix`: (n, n), doubly stochastic (to rounding)
    - `terms`: at most so many

    **Returns:** (α of shape (k,), index arrays of shape (k, n)) with k ≤ terms.

    **Raises:** `ValueError` for a matrix that is not square, not finite or not doubly stochastic.

        >>> import numpy as np
        >>> from mcjax.transport import birkhoff
        >>> alpha, permutations = birkhoff(np.array([[0.75, 0.25], [0.25, 0.75]]))
        >>> alpha.tolist(), permutations.tolist()
        ([0.75, 0.25], [[0, 1], [1, 0]])
    """
    rest = doubly_stochastic(matrix, "matrix")
    if rest.ndim != 2:
        raise ValueError(f"matrix must be square, got shape {rest.shape}")
    return _decompose(rest, terms)


def _decompose(rest: np.ndarray, terms: int) -> tuple[np.ndarray, np.ndarray]:
    """As `birkhoff`; the matrix is used up."""
    rows = np.arange(len(rest))
    alphas, found = [], []
    for _ in range(terms):
        # A missing entry costs more than all others could bring.
        allowed = rest > _TOLERANCE
        columns = assignment(np.where(allowed, rest, -len(rest) - 1))
        if not allowed[rows, columns].all():
            break  # no perfect matching is left
        alpha = rest[rows, columns].min()
        rest[rows, columns] -= alpha
        alphas.append(alpha)
        found.append(columns)
    return np.array(alphas), np.array(found, int).reshape(-1, len(rest))


def sample_permutations(
    matrices: Mapping[str, Any], count: int, rng: np.random.Generator, terms: int = 10
) -> list[dict[str, np.ndarray]]:
    """Permutations of every group, drawn from its Birkhoff decomposition with weights α.

    **Arguments:**
    - `matrices`: group name → (*group.shape, size), doubly stochastic
    - `count`: samples; `terms`: of the decomposition

    **Raises:** `ValueError` where a matrix is not finite or not doubly stochastic.
    """
    drawn: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    for name, given in matrices.items():
        matrix = doubly_stochastic(given, f"matrices[{name!r}]")
        parts = []
        for one in matrix.reshape(-1, *matrix.shape[-2:]):
            alpha, permutations = _decompose(one.copy(), terms)
            if len(alpha) == 0:  # to rounding: what is positive holds no perfect matching
                permutations, alpha = assignment(one)[None], np.ones(1)
            parts.append(permutations[rng.choice(len(alpha), count, p=alpha / alpha.sum())])
        for k in range(count):
            drawn[k][name] = np.stack([p[k] for p in parts]).reshape(matrix.shape[:-1])
    return drawn
