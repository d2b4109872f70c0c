"""Parameters made as short as the scalings and invertible matrices of their network allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..symmetry.balancing import balancing_matrix, balancing_scale
from .elements import Key, apply_to, factors
from .network import Network
from .stands import grams, inner_products, twice

SWEEPS = 200
# Elements so near to the identity change nothing.
_STILL = 1e-9


def balanced(
    network: Network, leaves: Sequence[Any], sweeps: int = SWEEPS
) -> tuple[list[Any], dict[Key, np.ndarray]]:
    """The shortest parameters that scalings and invertible matrices make of these: argmin ‖g θ‖².

    The norm is convex along one-parameter subgroups, so that alternating over factors, each in
    closed form, leads to the least point; of two points of one orbit, to two that differ by
    signs, permutations and rotations (Kempf and Ness 1979). Where a factor can only lengthen or
    shorten, what it moves gets norm 1 for each unit.

    **Arguments:**
    - `leaves`: NumPy arrays by number, computed with in float64
    - `sweeps`: at most

    **Returns:** (leaves, elements): factor → its element, which moves the leaves given to these
    """
    order = [k for g in network.groups.values() for k, f in factors(g) if f.kind in _KINDS]
    leaves = [_wide(v) for v in leaves]
    found: dict[Key, np.ndarray] = {}
    todo = order
    for _ in range(sweeps):
        moved = []
        for key in todo:
            step = _step(network, key, leaves)
            one = np.eye(step.shape[-1]) if _matrices(network, key) else 1.0
            if np.abs(step - one).max(initial=0) > _STILL:
                moved.append(key)
                leaves = apply_to(network, {key: step}, leaves)
                before = found.get(key)
                if before is None:
                    found[key] = step
                else:
                    found[key] = step @ before if _matrices(network, key) else step * before
        if not moved:
            break
    return leaves, found


_KINDS = ("positive", "general linear")


def _step(network: Network, key: Key, leaves: Sequence[Any]) -> np.ndarray:
    """The element of one factor that makes the leaves shortest, of a part of the way there where
    it moves an axis by itself and another by its inverse."""
    damped = twice(network, key)
    if _matrices(network, key):
        sums = grams(network, key, leaves, leaves)
        nothing = np.zeros((*network.groups[key[0]].shape, network.groups[key[0]].size))
        g = balancing_matrix(sums.get(1, nothing), sums.get(-1, nothing))
        return (g + np.eye(g.shape[-1])) / 2 if damped else g
    c = balancing_scale(inner_products(network, key, leaves, leaves))
    return np.sqrt(c) if damped else c


def _matrices(network: Network, key: Key) -> bool:
    return network.groups[key[0]].structure.factors[key[1]].matrices


def _wide(leaf: Any) -> Any:
    return leaf if leaf is None else np.asarray(leaf, np.result_type(leaf.dtype, np.float64))


__all__ = ["balanced"]
