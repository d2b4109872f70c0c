"""A group's units in one leaf as rows, by the power of a factor's element that moves them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..axes import Axes
from ..blocks import cut, plan
from ..groups import Group
from ..layout import Layout, followed
from .factors import Move


@dataclasses.dataclass(frozen=True)
class Rows:
    """The units of one block, on the host.

    - `rows`: (*outer sizes or 1 where the block holds one index, n, columns)
    - `powers`: of each entry: an integer, or an array of the rows' shape
    - `where`: the outer indices that the block holds
    """

    rows: np.ndarray
    powers: Any
    where: tuple[slice, ...]

    def of(self, power: int) -> np.ndarray:
        """The rows with 0 where another power moves them."""
        if np.ndim(self.powers) == 0:
            return self.rows if self.powers == power else np.zeros_like(self.rows)
        return np.where(self.powers == power, self.rows, 0)

    def present(self) -> set[int]:
        return {int(k) for k in np.unique(self.powers)}


def rows_of(group: Group, move: Move, leaf: np.ndarray, axes: Axes) -> Iterator[Rows]:
    """The blocks of a leaf in which the group stands on the move's axis."""
    how, dims = plan(axes)
    whole = np.broadcast_to(move.exponents, leaf.shape)
    uniform = move.exponents.size == 1
    for block, powers, of in zip(cut(leaf, how), cut(whole, how), dims, strict=True):
        for i, dim in enumerate(of):
            if dim.factor is not group.atom or dim.axis != move.axis:
                continue
            fixed = followed(of, i, group.outer)
            only = [of[d].only for d in fixed]
            layout = Layout(np.shape(block), fixed, (i,))
            outer = [n if k is None else 1 for n, k in zip(group.shape[:-1], only, strict=True)]
            shape = (*outer, group.size, layout.columns)
            yield Rows(
                layout.matrix(block).reshape(shape),
                int(powers.flat[0]) if uniform else layout.matrix(powers).reshape(shape),
                tuple(slice(None) if k is None else slice(k, k + 1) for k in only),
            )


def squares(group: Group, moves: Sequence[tuple[Move, np.ndarray, Axes]]) -> dict[int, np.ndarray]:
    """Power → Σ |entries|² of each unit, (*group.shape,), over the leaves that a factor moves."""
    found: dict[int, np.ndarray] = {}
    for move, leaf, axes in moves:
        for r in rows_of(group, move, leaf, axes):
            for k in r.present():
                total = found.setdefault(k, np.zeros(group.shape))
                total[r.where] += (np.abs(r.of(k)) ** 2).sum(-1)
    return found


def grams(group: Group, moves: Sequence[tuple[Move, np.ndarray, Axes]]) -> dict[int, np.ndarray]:
    """Power → Σ (rows)(rows)ᵀ, (*group.shape, n)."""
    found: dict[int, np.ndarray] = {}
    for move, leaf, axes in moves:
        for r in rows_of(group, move, leaf, axes):
            for k in r.present():
                total = found.setdefault(k, np.zeros((*group.shape, group.size)))
                x = r.of(k)
                total[r.where] += (x @ np.conj(np.swapaxes(x, -1, -2))).real
    return found


__all__ = ["Rows", "grams", "rows_of", "squares"]
