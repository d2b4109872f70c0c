"""Barriers under rescaling that no permutation of the last hidden layer removes (Prop. 5.4)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _check

# Units whose permutations are enumerated: 8! = 40,320.
ENUMERATED = 8


@dataclasses.dataclass(frozen=True)
class PermutedBarrier:
    """The least loss at α over permutations of the last hidden layer, or bounds of it.

    - `lower`, `upper`: the least loss lies between them; `upper` is that of `permutation`
    - `permutation`: (n,), unit i is interpolated with unit `permutation[i]` of the other end
    - `status`: "optimal" if all permutations were tried, else "bounded"
    """

    lower: float
    upper: float
    permutation: np.ndarray
    status: str


@_check.on_host
def permuted_barrier(
    last: Any, pre: Any, activation: Callable[[Any], Any], m: float, *,
    k: float = 1.0, alpha: float = 0.5, steps: int = 200,
) -> PermutedBarrier:  # fmt: skip
    """min_P ‖Y − Σ_i ((1 − α) w_i + α m^{−k} w_{P(i)}) σ((1 − α) z_i + α m z_{P(i)})‖².

    The loss at α between a minimum (Y = Σ w_i σ(z_i)) and its rescaling by m whose last hidden
    units are permuted (zhao2025, Prop. 5.4; the statement drops the primes of the second end, and
    the ¼ of Eq. 19 is that of k = 1: here σ is evaluated, and nothing is assumed of its degree).
    Up to 8 units all permutations are tried. Beyond, the loss is a convex quadratic of the
    matrix of P: Frank–Wolfe over doubly stochastic matrices bounds it from below by its duality
    gap, and the permutations on the way from above.

    **Arguments:**
    - `last`: W_l, (d, n)
    - `pre`: Z = W_{l−1} f, the last hidden pre-activations, (n, N), columns are examples
    - `activation`: σ on arrays
    - `m`, `k`: the scale and the degree of σ
    - `alpha`: α in [0, 1]
    - `steps`: of Frank–Wolfe, for more than 8 units

    **Raises:** `ValueError` for shapes that do not fit, or α outside [0, 1].

        >>> import numpy as np
        >>> relu = lambda z: np.maximum(z, 0)
        >>> found = permuted_barrier(np.ones((1, 2)), np.eye(2), relu, 9.0)
        >>> found.status, found.lower > 1
        ('optimal', True)
    """
    w, z = np.asarray(last, np.float64), np.asarray(pre, np.float64)
    if w.ndim != 2 or z.ndim != 2 or w.shape[1] != len(z):
        raise ValueError(f"last and pre: expected (d, n) and (n, N), got {w.shape} and {z.shape}")
    _check.interval(alpha, "alpha")
    n, target = len(z), (w @ np.asarray(activation(z), np.float64)).ravel()
    columns = (1 - alpha) * w.T[:, None] + alpha * m**-k * w.T[None]  # (n, n, d)
    hidden = np.asarray(activation((1 - alpha) * z[:, None] + alpha * m * z[None]))  # (n, n, N)
    parts = (columns[..., None] * hidden[..., None, :]).reshape(n, n, -1)
    if n <= ENUMERATED:
        return _enumerated(parts, target)
    return _bounded(parts, target, _check.positive(steps, "steps"))


def _enumerated(parts: np.ndarray, target: np.ndarray) -> PermutedBarrier:
    rows = range(len(parts))
    losses = {p: _loss(parts[rows, p].sum(0), target) for p in itertools.permutations(rows)}
    best = min(losses, key=losses.__getitem__)
    return PermutedBarrier(losses[best], losses[best], np.array(best), "optimal")


def _bounded(parts: np.ndarray, target: np.ndarray, steps: int) -> PermutedBarrier:
    from scipy.optimize import linear_sum_assignment

    rows, lower = np.arange(len(parts)), 0.0
    output = parts.mean(0).sum(0)  # of the matrix of 1/n
    upper, best = _loss(parts[rows, rows].sum(0), target), rows
    for _ in range(steps):
        gradient = 2 * parts @ (output - target)
        order = linear_sum_assignment(gradient)[1]
        vertex = parts[rows, order].sum(0)
        gap = 2 * (output - target) @ (output - vertex)
        lower = max(lower, _loss(output, target) - gap)
        if (loss := _loss(vertex, target)) < upper:
            upper, best = loss, order
        length = np.square(vertex - output).sum()
        if gap <= 0 or length == 0:
            break
        output = output + min(1.0, gap / (2 * length)) * (vertex - output)
    return PermutedBarrier(lower, upper, best, "bounded")


def _loss(output: np.ndarray, target: np.ndarray) -> float:
    return float(np.square(output - target).sum())


__all__ = ["PermutedBarrier", "permuted_barrier"]
