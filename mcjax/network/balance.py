"""Parameters made as short as the scalings and invertible matrices of their network allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._threads import one_if_small
from ..symmetry.balancing import balancing_matrix, balancing_scale
from .elements import Key, apply_to, factors, multiplied
from .network import Network
from .scalings import Scalings, squares
from .stands import grams, twice

ROUNDS = 200
# Elements so near to the identity change nothing.
STILL = 1e-9
# Steps in log c are made longer by so much: chains of layers settle in fewer rounds.
_RELAXATION = 1.5
_AT_ONCE = 20
# Of a step in log c or log g where it acts on both sides of a leaf: a whole one may be twice
# Newton's, which goes to and fro for ever (units of two kinds, each read by the other alone).
TWICE = 0.7


def balanced(
    network: Network, leaves: Sequence[Any], *, rounds: int = ROUNDS, still: float = STILL
) -> tuple[list[Any], dict[Key, np.ndarray]]:
    """The shortest parameters that scalings and invertible matrices make of these: argmin ‖g θ‖².

    The norm is convex along one-parameter subgroups, so that alternating over factors, each in
    closed form, leads to the least point; of two points of one orbit, to two that differ by
    signs, permutations and rotations (Kempf and Ness 1979). Where a factor can only lengthen or
    shorten, or one side is 0, what it moves gets norm 1 for each unit.

    **Arguments:**
    - `leaves`: NumPy arrays by number (others are not touched), computed with in float64
    - `rounds`: over all factors, at most
    - `still`: elements no farther from the identity end the search

    **Returns:** (leaves, elements): factor → its element, which moves the leaves given to these
    """
    leaves = [_wide(v) for v in leaves]
    every = [(k, f) for g in network.groups.values() for k, f in factors(g)]
    matrices = [k for k, f in every if f.kind == "general linear"]
    scalings = [k for k, f in every if f.kind == "positive"]
    found: dict[Key, np.ndarray] = {}
    for _ in range(rounds if matrices else 1):
        steps, off = {}, 0.0
        for key in matrices:
            g = _matrix(network, key, leaves)
            off = max(off, float(np.abs(g - np.eye(g.shape[-1])).max(initial=0)))
            leaves, steps[key] = apply_to(network, {key: g}, leaves), g
        if scalings:
            scales, moved = _scaled(
                network, scalings, leaves, _AT_ONCE if matrices else rounds, still
            )
            leaves, off = apply_to(network, scales, leaves), max(off, moved)
            steps |= scales
        found = multiplied(network, steps, found)
        if off <= still:
            break
    return leaves, found


def _matrix(network: Network, key: Key, leaves: Sequence[Any]) -> np.ndarray:
    """The matrix that makes the leaves shortest, or a part of the way to it."""
    group = network.groups[key[0]]
    nothing = np.zeros((*group.shape, group.size))
    sums = grams(network, key, leaves, leaves)
    with one_if_small(group.size):
        g = balancing_matrix(sums.get(1, nothing), sums.get(-1, nothing))
        return power(g, TWICE) if twice(network, key) else g


def _scaled(
    network: Network, keys: Sequence[Key], leaves: Sequence[Any], rounds: int, still: float
) -> tuple[dict[Key, np.ndarray], float]:
    """(elements of the scalings, the greatest |log c| of the first round)."""
    tables = Scalings(network, keys, lambda i: squares(leaves[i]), 2)
    logs = {k: np.zeros(network.groups[k[0]].shape) for k in keys}
    longer = {k: TWICE if twice(network, k) else _RELAXATION for k in keys}
    first = 0.0
    for i in range(rounds):
        off = 0.0
        for key in keys:
            step = longer[key] * np.log(balancing_scale(tables.sums(key)))
            tables.scale(key, np.exp(step))
            logs[key] += step
            off = max(off, float(np.abs(step).max(initial=0)))
        first = first if i else off
        if off <= still:
            break
    return {k: np.exp(v) for k, v in logs.items()}, first


def power(matrices: np.ndarray, exponent: float) -> np.ndarray:
    """A power of symmetric positive matrices, (…, n, n)."""
    sizes, vectors = np.linalg.eigh(matrices)
    return (vectors * sizes[..., None, :] ** exponent) @ vectors.swapaxes(-1, -2)


def _wide(leaf: Any) -> Any:
    return leaf if leaf is None else np.asarray(leaf, np.result_type(leaf.dtype, np.float64))


__all__ = ["TWICE", "balanced", "power"]
