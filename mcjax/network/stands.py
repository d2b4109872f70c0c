"""Where a factor moves a group's units, as rows: one a unit, with the exponent of each entry."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .blocks import Block, Plan, cut, plan
from .groups import Group
from .layout import Layout, followed
from .structure import Structure
from .symmetry.factors import Factor


@dataclasses.dataclass(frozen=True, eq=False)
class Stand:
    """A block of a leaf with the units on one dimension.

    - `leaf`, `axis`, `block`: by number; `layout`: the block as (outer units…, units, columns)
    - `only`: for each outer axis of the group the one index of it that the block holds, or None
    - `exponents`: of all entries, or an array that broadcasts against the block's rows
    """

    leaf: int
    axis: int
    block: int
    layout: Layout
    only: tuple[int | None, ...]
    exponents: Any

    @property
    def index(self) -> tuple[slice, ...]:
        """Where its rows are in arrays over the group's outer axes."""
        return tuple(slice(None) if k is None else slice(k, k + 1) for k in self.only)

    def rows(self, leaf: Any, how: Plan, shape: tuple[int, ...]) -> Any:
        """(*outer sizes, 1 where the block holds one index, units, columns) of the leaf."""
        matrix = self.layout.matrix(cut(leaf, how)[self.block])
        outer = [n if k is None else 1 for n, k in zip(shape, self.only, strict=False)]
        return matrix.reshape(*outer, shape[-1], self.layout.columns)


def stands(network: Structure, key: tuple[str, int]) -> tuple[Stand, ...]:
    """The stands of a factor, (name of the group, number), leaf by leaf.

    Blocks none of whose entries it moves are left out.
    """
    return _all(network)[key]


@lru_cache(maxsize=16)
def _all(network: Structure) -> Mapping[tuple[str, int], tuple[Stand, ...]]:
    return {
        (name, number): tuple(_stands(network, group, factor))
        for name, group in network.groups.items()
        for number, factor in enumerate(group.structure.factors)
    }


def _stands(network: Structure, group: Group, factor: Factor) -> Iterator[Stand]:
    for leaf, moves in factor.moves:
        how, dims = plan(network.leaf_axes[leaf])
        shape = network.leaf_types[leaf].shape
        for move in moves:
            exponents = move.exponents
            if exponents.size == 1:
                blocks: list[Any] = [int(exponents.flat[0])] * len(dims)
            else:
                blocks = cut(np.broadcast_to(exponents, shape), how)
            for block, (k, of) in enumerate(zip(blocks, dims, strict=True)):
                for i, dim in enumerate(of):
                    if dim.factor is group.atom and dim.axis == move.axis and np.any(k):
                        yield _stand(group, leaf, move.axis, block, of, i, k)


def _stand(
    group: Group, leaf: int, axis: int, block: int, dims: Block, i: int, exponents: Any
) -> Stand:
    fixed = followed(dims, i, group.outer)
    only = tuple(dims[d].only for d in fixed)
    layout = Layout(tuple(d.size for d in dims), fixed, (i,))
    first = np.ravel(exponents)[0]
    if np.ndim(exponents) and (exponents == first).all():
        exponents = int(first)
    elif np.ndim(exponents):
        outer = [d.size for d, k in zip((dims[d] for d in fixed), only, strict=True)]
        exponents = layout.matrix(exponents).reshape(*outer, group.size, layout.columns)
    return Stand(leaf, axis, block, layout, only, exponents)


def twice(network: Structure, key: tuple[str, int]) -> bool:
    """Whether a factor moves two axes of one block of a leaf."""
    seen = [(s.leaf, s.block) for s in stands(network, key)]
    return len(set(seen)) < len(seen)


def inner_products(
    network: Structure, key: tuple[str, int], a: Sequence[Any], b: Sequence[Any]
) -> dict[int, np.ndarray]:
    """Exponent k → ⟨a's entries, b's⟩ of each unit that have it, of `group.shape`."""
    shape = network.groups[key[0]].shape
    found: dict[int, np.ndarray] = {}
    for stand, k, x, y in _pairs(network, key, a, b):
        total = found.setdefault(k, np.zeros(shape))
        total[stand.index] += np.einsum("...c,...c->...", x, y)
    return found


def grams(
    network: Structure, key: tuple[str, int], a: Sequence[Any], b: Sequence[Any]
) -> dict[int, np.ndarray]:
    """Exponent k → a's rows times b's, over the entries that have it, (*group.shape, n)."""
    shape = network.groups[key[0]].shape
    found: dict[int, np.ndarray] = {}
    for stand, k, x, y in _pairs(network, key, a, b):
        total = found.setdefault(k, np.zeros((*shape, shape[-1])))
        total[stand.index] += x @ y.swapaxes(-1, -2)
    return found


def _pairs(
    network: Structure, key: tuple[str, int], a: Sequence[Any], b: Sequence[Any]
) -> Iterator[tuple[Stand, int, np.ndarray, np.ndarray]]:
    """For each stand and exponent, both networks' rows: a's with zeros for other exponents."""
    shape = network.groups[key[0]].shape
    for stand in stands(network, key):
        how = plan(network.leaf_axes[stand.leaf])[0]
        x, y = (stand.rows(v[stand.leaf], how, shape) for v in (a, b))
        for k in np.unique(stand.exponents).tolist():
            if k:
                uniform = np.ndim(stand.exponents) == 0
                yield stand, k, x if uniform else np.where(stand.exponents == k, x, 0), y


__all__ = ["Stand", "grams", "inner_products", "stands", "twice"]
