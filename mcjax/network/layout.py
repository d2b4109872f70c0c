"""A block read as matrices, one row a unit: for rows, for products, and for moving units."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .axes import Atom, Axes
from .blocks import Block, dependee, map_blocks


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


def along(
    function: Callable[[Any, Any], Any],
    given: Any,
    block: Any,
    dims: Block,
    i: int,
    outer: Sequence[Atom],
) -> Any:
    """A block whose units on dimension i are moved or mixed as `function` says.

    **Arguments:**
    - `function`: of (outer indices, …), what is given for each of them, and of the block as
      (outer indices, units, columns), which it returns changed
    - `given`: (*outer sizes, …), what there is to do for each outer index
    - `outer`: the atoms that the units depend on
    """
    fixed = followed(dims, i, outer)
    for position, d in enumerate(fixed):
        only = dims[d].only
        if only is not None:  # the block is one index of that outer axis
            given = given[(*[slice(None)] * position, slice(only, only + 1))]
    given = given.reshape(-1, *np.shape(given)[len(fixed) :])
    layout = Layout(np.shape(block), fixed, (i,))
    return layout.back(function(given, layout.matrix(block)))


def act(
    function: Callable[[Any, Any], Any],
    outer: Mapping[Atom, Sequence[Atom]],
    given: Mapping[Atom, Any],
    leaf: Any,
    axes: Axes,
) -> Any:
    """A leaf whose units are moved or mixed wherever they stand, outer units first.

    **Arguments:**
    - `function`: see `along`
    - `outer`: atom → the atoms that its units depend on, for those given
    - `given`: atom → what there is to do, (*outer sizes, …)
    """

    def move(block, dims: Block):
        todo = [(i, d.factor) for i, d in enumerate(dims) if d.factor in given]
        for i, atom in sorted(todo, key=lambda pair: len(outer[pair[1]])):
            block = along(function, given[atom], block, dims, i, outer[atom])
        return block

    return map_blocks(move, leaf, axes)
