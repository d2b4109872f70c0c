"""Profits of matching units by their parameters: the terms that weight matching maximises."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ..network.axes import Atom, atoms
from ..network.blocks import Block, blocks
from ..network.network import Network
from .assignment import Term, solve

Arrays = Sequence[Any]  # float leaves as NumPy arrays, None for others


def inner_product(a: Arrays, b: Arrays) -> float:
    """Σ over all float parameters."""
    pairs = zip(a, b, strict=True)
    return float(sum(np.vdot(x, y).real for x, y in pairs if x is not None and y is not None))


def move(network: Network, permutations: Mapping[str, np.ndarray], arrays: Arrays) -> Arrays:
    """The arrays with units permuted (arrays without these groups are not copied)."""
    given = {network.groups[n].atom: np.asarray(p) for n, p in permutations.items()}
    return [
        v if v is None else network.permute_leaf(given, v, axes)
        for v, axes in zip(arrays, network.leaf_axes, strict=True)
    ]


def parameter_terms(
    network: Network,
    a: Arrays,
    b: Arrays,
    cluster: Sequence[Atom],
    settled: Collection[Atom] | None = None,
) -> list[Term]:
    """⟨unit of a, unit of b⟩ over every parameter that touches a cluster of groups.

    **Arguments:**
    - `settled`: groups already matched; parameters that touch any other are left out (None:
      all count, as in coordinate descent)
    """
    mine = set(cluster)
    terms = []
    for x, y, axes in zip(a, b, network.leaf_axes, strict=True):
        if x is None or y is None or not any(t in mine for e in axes for t in atoms(e)):
            continue
        for (block_a, dims), (block_b, _) in zip(blocks(x, axes), blocks(y, axes), strict=True):
            for units in _occurrences(dims, mine):
                others = {d.factor for i, d in enumerate(dims) if i not in units}
                free = others.intersection(network.by_atom)
                if settled is None or free <= set(settled):
                    terms.append(_term(network, block_a, block_b, dims, units))
    return terms


def _occurrences(dims: Block, mine: set[Atom]) -> list[list[int]]:
    """Dimensions that hold the cluster: all at once, or axis by axis where a group stands twice."""
    here = [i for i, d in enumerate(dims) if d.factor in mine]
    if not here:
        return []
    if len({dims[i].factor for i in here}) == len(here):
        return [here]
    by_axis: dict[int, list[int]] = {}
    for i in here:
        by_axis.setdefault(dims[i].axis, []).append(i)
    out = []
    for group in by_axis.values():
        twice = len({dims[i].factor for i in group}) < len(group)
        out.extend([[i] for i in group] if twice else [group])
    return out


def _term(network: Network, block_a: Any, block_b: Any, dims: Block, units: list[int]) -> Term:
    needed = {o for i in units for o in network.group_of(dims[i]).outer}
    own = {dims[i].factor for i in units}
    fixed = [
        i for i, d in enumerate(dims)
        if d.factor in needed - own and i not in units and d.only is None
    ]  # fmt: skip
    rest = [i for i in range(len(dims)) if i not in units and i not in fixed]
    shape_f, shape_u = (tuple(dims[i].size for i in group) for group in (fixed, units))

    def matrix(block: np.ndarray) -> np.ndarray:
        moved = np.transpose(block, [*fixed, *units, *rest])
        return moved.reshape(math.prod(shape_f), math.prod(shape_u), -1)

    profit = matrix(block_a) @ np.conj(matrix(block_b)).swapaxes(1, 2)
    return Term(
        np.real(profit).reshape(shape_f + shape_u + shape_u),
        tuple(dims[i].factor for i in fixed),  # type: ignore[misc]
        tuple(dims[i].factor for i in units),  # type: ignore[misc]
    )


def settle(
    network: Network, a: Arrays, b: Arrays, groups: list[list[Atom]]
) -> dict[str, np.ndarray]:
    """Match cluster after cluster, each on the parameters whose other units are settled.

    The next cluster is always the one with the most settled parameters, so the order runs from
    the inputs (and outputs) inwards. For one hidden layer this is the exact optimum.
    """
    settled: set[Atom] = set()
    found: dict[str, np.ndarray] = {}
    todo = list(range(len(groups)))
    while todo:
        weights = [_settled_weight(network, groups[i], settled) for i in todo]
        i = todo.pop(int(np.argmax(weights)))
        terms = parameter_terms(network, a, b, groups[i], settled)
        outer = {atom: network.by_atom[atom].outer for atom in groups[i]}
        if terms:
            solved, _ = solve(terms, outer)
            delta = {network.by_atom[atom].name: solved[atom] for atom in groups[i]}
            b = move(network, delta, b)
            found.update(delta)
        settled |= set(groups[i])
    return found


def _settled_weight(network: Network, cluster: list[Atom], settled: set[Atom]) -> float:
    """Settled parameters for each unit of a cluster's least known group: how sure it is now."""
    known = dict.fromkeys(cluster, 0.0)
    for axes, leaf in zip(network.leaf_axes, network.leaf_types, strict=True):
        here = {t for e in axes for t in atoms(e) if t in network.by_atom}
        if here - set(cluster) <= settled:
            for atom in here.intersection(cluster):
                known[atom] += math.prod(leaf.shape) / atom.size
    return min(known.values())
