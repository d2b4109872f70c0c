"""The scales and general matrices of the shortest parameters in an orbit.

min ‖g · θ‖² over scalings and invertible matrices of every group at once: convex in log c and along
geodesics in g, so that the minimum is one point up to rotations (Kempf and Ness 1979). There every
unit is as long in what writes it as in what reads it, lengths weighted by the degree, and the Gram
matrices of writers and readers of linear units are the same. Found group by group in float64, each
in closed form or by Newton's method, until nothing changes.

What is zero on one side has no minimum: a unit that nothing writes, or nothing reads, is scaled to
length 1 on the other; directions of linear units that are not read, or not written, likewise.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .elements import Key, factor_of, factors
from .groups import Group
from .network import Network
from .symmetry.act import transform_leaf
from .symmetry.factors import Factor
from .symmetry.rows import grams, squares

Leaves = list[Any]  # by number, float64 on the host

_MOST = 2000  # sweeps
_STILL = 1e-11  # largest change of a log scale in a sweep
# Eigenvalues of Gram matrices so much smaller than the largest are 0 (float32's rounding, squared).
_RANK = 1e-12


@dataclasses.dataclass
class Balanced:
    """What `balance` has found: elements by factor, and the leaves moved by them."""

    elements: dict[Key, np.ndarray]
    leaves: Leaves
    sweeps: int
    change: float
    converged: bool


def balance(network: Network, leaves: Leaves) -> Balanced:
    """The elements that make the parameters shortest."""
    keys = [
        (key, factor)
        for group in network.groups.values()
        for key, factor in factors(group)
        if factor.kind in ("positive", "general linear")
    ]
    found: dict[Key, np.ndarray] = {}
    change, sweep = 0.0, 0
    for sweep in range(1, _MOST + 1):
        change = 0.0
        for key, factor in keys:
            group = network.groups[key[0]]
            step, size = _step(network, group, factor, leaves)
            change = max(change, size)
            leaves = moved(network, group, factor, step, leaves)
            before = found.get(key)
            if before is not None:
                step = step @ before if factor.matrices else step * before
            found[key] = step
        if change <= _STILL:
            break
    return Balanced(found, leaves, sweep, change, change <= _STILL)


def moved(
    network: Network, group: Group, factor: Factor, element: np.ndarray, leaves: Leaves
) -> Leaves:
    """The leaves with an element of a factor applied."""
    leaves = list(leaves)
    for number, _ in factor.moves:
        axes = network.leaf_axes[number]
        leaves[number] = transform_leaf(group, factor, element, number, leaves[number], axes)
    return leaves


def places(network: Network, factor: Factor, leaves: Leaves) -> list[tuple[Any, Any, Any]]:
    """(move, leaf, axes) wherever a factor acts."""
    return [
        (move, leaves[number], network.leaf_axes[number])
        for number, of in factor.moves
        for move in of
    ]


def _step(
    network: Network, group: Group, factor: Factor, leaves: Leaves
) -> tuple[np.ndarray, float]:
    """(element, size of its logarithm): all the way, or the part of it that cannot overshoot.

    Where a group stands on several axes of one leaf its units are not independent of each other.
    """
    most = max((len(of) for _, of in factor.moves), default=1)
    where = places(network, factor, leaves)
    if factor.kind == "positive":
        logs = best_scales(squares(group, where)) / most
        return np.exp(logs), float(np.abs(logs).max(initial=0))
    found = grams(group, where)
    zero = np.zeros((*group.shape, group.size))
    written, read = (found.get(k, zero).reshape(-1, *zero.shape[-2:]) for k in (1, -1))
    pairs = [_root(balancing(w, r), 2 * most) for w, r in zip(written, read, strict=True)]
    steps, sizes = zip(*pairs, strict=True)
    return np.array(steps).reshape(zero.shape), max(sizes)


def best_scales(sums: dict[int, np.ndarray]) -> np.ndarray:
    """argmin_u ½ Σ_k S_k e^{2 k u} for each unit; one-sided: Σ_k |k| S_k e^{2 k u} = 1.

    **Arguments:**
    - `sums`: power k → S_k, Σ |entries|²
    """
    shape = next(iter(sums.values())).shape if sums else ()
    u = np.zeros(shape)
    sides = [{k: v for k, v in sums.items() if k * sign > 0} for sign in (1, -1)]
    alive = [sum((v > 0 for v in side.values()), np.zeros(shape, bool)) for side in sides]
    for _ in range(60):
        logs, slopes = zip(*(_log_side(side, u) for side in sides), strict=True)
        both = alive[0] & alive[1]
        value = np.where(both, logs[0] - logs[1], np.where(alive[0], logs[0], -logs[1]))
        slope = np.where(both, slopes[0] - slopes[1], np.where(alive[0], slopes[0], -slopes[1]))
        step = np.divide(value, slope, out=np.zeros(shape), where=alive[0] | alive[1])
        u = u - step
        if np.abs(step).max(initial=0) < 1e-15:
            break
    return u


def _log_side(side: dict[int, np.ndarray], u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(log Σ_k |k| S_k e^{2 k u}, its derivative); 0 where all are 0."""
    if not side:
        return np.zeros_like(u), np.zeros_like(u)
    with np.errstate(divide="ignore"):
        terms = np.array([np.log(abs(k) * v) + 2 * k * u for k, v in side.items()])
    top = terms.max(0)
    top = np.where(np.isfinite(top), top, 0)
    parts = np.exp(terms - top)
    total = parts.sum(0)
    powers = 2 * np.array(list(side), float).reshape(-1, *(1,) * u.ndim)
    empty = total == 0
    total = np.where(empty, 1, total)
    return np.where(empty, 0, np.log(total) + top), (powers * parts).sum(0) / total


def balancing(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """gᵀg for which g A gᵀ and g⁻ᵀ B g⁻¹ are the same diagonal matrix, up to rotations.

    Where one of them is 0 the other becomes 1 (as in balanced realisations that are not minimal:
    Zhou, Doyle and Glover 1996, Theorem 3.22).

    **Arguments:**
    - `a`, `b`: (n, n) Gram matrices of the writers, which move by g, and of the readers
    """
    n = len(a)
    size, vectors = np.linalg.eigh(a)
    kept = size > _RANK * size.max(initial=0)
    root = vectors[:, kept] * np.sqrt(size[kept])
    squared, v = np.linalg.eigh(root.T @ b @ root)
    both = squared > _RANK * squared.max(initial=0)
    strength = np.sqrt(squared[both])
    paired = root @ v[:, both] / np.sqrt(strength)
    only = root @ v[:, ~both]  # written, not read
    rest = vectors[:, ~kept]
    rest = rest - paired @ ((paired.T @ b @ rest) / strength[:, None])
    left, w = np.linalg.eigh(rest.T @ b @ rest)
    largest = np.linalg.eigvalsh(b).max(initial=0)
    left = np.where(left > _RANK * largest, left, 1.0)
    basis = np.concatenate([paired, only, (rest @ w) / np.sqrt(left)], 1)
    inverse = np.linalg.inv(basis) if n else basis
    return inverse.T @ inverse


def _root(s: np.ndarray, root: int) -> tuple[np.ndarray, float]:
    """(S^(1 / root), size of its logarithm) of a positive definite matrix."""
    size, vectors = np.linalg.eigh((s + s.T) / 2)
    logs = np.log(np.maximum(size, np.finfo(float).tiny)) / root
    return (vectors * np.exp(logs)) @ vectors.T, float(np.abs(logs).max(initial=0))


__all__ = ["Balanced", "Leaves", "balance", "balancing", "best_scales", "moved", "places"]
