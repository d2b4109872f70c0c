"""A block read as matrices, one row a unit: for rows, for products, and for moving units."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .axes import Atom, Axes
from .blocks import Block, dependee, map_blocks
from .groups import Group


@dataclasses.dataclass(frozen=True)
class Layout:
    """A block of `shape` as (fixed…, units…, everything else): dimensions by number."""

    shape: tuple[int, ...]
    fixed: tuple[int, ...]
    units: tuple[int, ...]

    @property
    def rest(self) -> tuple[int, ...]:
        own = {*self.fixed, *self.units}
        return tuple(i for i in range(len(self.shape)) if i not in own)

    def sizes(self, which: Sequence[int]) -> tuple[int, ...]:
        return tuple(self.shape[i] for i in which)

    @property
    def columns(self) -> int:
        """Entries of the block for each unit."""
        return math.prod(self.sizes(self.rest))

    def matrix(self, block: Any) -> Any:
        """(indices of the fixed dimensions, units, columns)."""
        moved = block.transpose((*self.fixed, *self.units, *self.rest))
        rows = (math.prod(self.sizes(self.fixed)), math.prod(self.sizes(self.units)))
        return moved.reshape(*rows, self.columns)

    def back(self, matrix: Any) -> Any:
        """The block whose matrix this is."""
        order = (*self.fixed, *self.units, *self.rest)
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return matrix.reshape(self.sizes(order)).transpose(inverse)


def followed(dims: Block, i: int, outer: Sequence[Atom]) -> tuple[int, ...]:
    """The dimensions that hold the outer units of those on dimension i."""
    return tuple(dependee(o, dims[i], dims) for o in outer)


def act(
    function: Callable[[Any, Any, Layout], Any],
    groups: Mapping[Atom, Group],
    given: Mapping[Atom, Any],
    leaf: Any,
    axes: Axes,
) -> Any:
    """A leaf whose units are moved or mixed wherever they stand, outer units first.

    **Arguments:**
    - `function`: of what is given for the group, the block, and its layout (outer units…, units,
      everything else): the block changed. Where the block holds one index of an outer axis, so
      does what is given
    - `groups`: atom → group
    - `given`: atom → what there is to do, (*outer sizes, …), for the groups that are concerned
    """

    def move(block, dims: Block):
        todo = [(i, groups[d.factor]) for i, d in enumerate(dims) if d.factor in given]  # type: ignore[index]
        for i, group in sorted(todo, key=lambda pair: len(pair[1].outer)):
            fixed, own = followed(dims, i, group.outer), given[group.atom]
            for position, d in enumerate(fixed):
                only = dims[d].only
                if only is not None:
                    own = own[(*[slice(None)] * position, slice(only, only + 1))]
            block = function(own, block, Layout(np.shape(block), fixed, (i,)))
        return block

    return map_blocks(move, leaf, axes)


__all__ = ["Layout", "act", "followed"]
