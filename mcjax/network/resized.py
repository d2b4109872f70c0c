"""Parameters on their way to other widths: a group's units as rows, any number put back."""

from __future__ import annotations

import jax
import numpy as np

from .._static import pack, unpack
from .._types import Params
from .blocks import cut, join, plan
from .coupled import check_same
from .network import Network
from .units import Cell, units_of


class Resized:
    """Parameters of `network`, some of whose groups have the widths of `other` already.

    A row is a butterfly: all that writes a unit, then all that reads it, the other groups with as
    many units as they have by then.

    **Raises:** `ValueError` for networks that differ in more than widths, groups that stand twice
    on one parameter, and statistics of batch normalisation.
    """

    def __init__(self, network: Network, other: Network, params: Params) -> None:
        check_same(network, other)
        if statistics := sorted(network.normalisations.leaves):
            name = network.leaf_names[statistics[0]]
            raise ValueError(
                f"network: leaf {name!r} holds statistics of batch normalisation, which are of the "
                "units that there were; fold it into the weights (Network.absorbed) or leave it out"
            )
        self.network, self.other, self.packed = network, other, pack(params) is params
        leaves = network.flatten(params, "params")
        self.types = [np.asarray(leaf).dtype for leaf in leaves]
        self.blocks = [
            list(cut(np.asarray(leaf), plan(axes)[0]))
            for leaf, axes in zip(leaves, network.leaf_axes, strict=True)
        ]

    def rows(self, name: str) -> np.ndarray:
        """(units, columns), float64."""
        parts = [self._matrix(cell) for cell in self._cells(name)]
        return np.concatenate(parts, 1)

    def put(self, name: str, rows: np.ndarray) -> None:
        """Rows of any number m of units in the place of the n there were.

        What reads a unit counts n / m times, so that sums over units stay of one size.
        """
        start = 0
        for cell in self._cells(name):
            block = self.blocks[cell.leaf][cell.block]
            (i,) = cell.layout.units
            rest = np.moveaxis(block, i, 0).shape[1:]
            size = int(np.prod(rest))
            part = rows[:, start : start + size].reshape(len(rows), *rest)
            scale = 1 if cell.written else block.shape[i] / len(rows)
            self.blocks[cell.leaf][cell.block] = np.moveaxis(scale * part, 0, i)
            start += size

    def params(self) -> Params:
        """The parameters of `other`, once every group has its widths."""
        out = [
            join(of, plan(self.other.leaf_axes[k])[0], self.other.leaf_types[k].shape).astype(dtype)
            for k, (of, dtype) in enumerate(zip(self.blocks, self.types, strict=True))
        ]
        made = jax.tree.unflatten(self.other.treedef, out)
        return made if self.packed else unpack(made)

    def _matrix(self, cell: Cell) -> np.ndarray:
        (i,) = cell.layout.units
        block = np.moveaxis(self.blocks[cell.leaf][cell.block], i, 0)
        return np.asarray(block, np.float64).reshape(len(block), -1)

    def _cells(self, name: str) -> tuple[Cell, ...]:
        cells = units_of(self.network, name).cells
        places = [(c.leaf, c.block) for c in cells]
        for leaf, block in places:
            if places.count((leaf, block)) > 1:
                raise ValueError(
                    f"network: group {name!r} stands twice on leaf "
                    f"{self.network.leaf_names[leaf]!r}: a unit has no row of its own there"
                )
        return cells


__all__ = ["Resized"]
