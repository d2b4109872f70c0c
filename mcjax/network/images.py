"""What factors do to a leaf, done to what is linear in it and leaves their axes alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from .axes import Axes, Concat, Expr, Family, Uniform, inside, mentioned
from .elements import Elements, Key
from .groups import Group
from .structure import Structure
from .symmetry.act import transform_leaf
from .symmetry.factors import Factor, Move


@dataclasses.dataclass(frozen=True, eq=False)
class Mover:
    """The factors that move a leaf, on a few of its axes.

    - `axes`: of the leaf, ascending; along all others every factor does the same
    - `expressions`: these axes
    - `factors`: in the order in which they act: of which group, and the factor as it moves an
      array of one axis more, which stands first
    """

    axes: tuple[int, ...]
    expressions: Axes
    factors: tuple[tuple[Key, Group, Factor], ...]

    @property
    def cost(self) -> float:
        """Multiply-adds for each entry that is moved."""
        return sum(
            float(group.size) if factor.matrices else 1.0 for _, group, factor in self.factors
        )

    def __call__(
        self, elements: Elements, inverses: Elements, value: Any, dims: Sequence[int]
    ) -> Any:
        """A value with the leaf's `axes` at its dimensions `dims`, moved by elements.

        **Arguments:**
        - `inverses`: of matrices, as far as they are known
        """
        order = (*(d for d in range(value.ndim) if d not in dims), *dims)
        shape = [value.shape[d] for d in order]
        rest = math.prod(shape[: value.ndim - len(dims)])
        moved = value.transpose(order).reshape(rest, *shape[value.ndim - len(dims) :])
        for key, group, factor in self.factors:
            axes = ((Uniform(rest),), *self.expressions)
            moved = transform_leaf(group, factor, elements[key], 0, moved, axes, inverses.get(key))
        return moved.reshape(shape).transpose(tuple(np.argsort(order)))


def movers(network: Structure, keys: Collection[Key]) -> dict[int, Mover]:
    """Number of a leaf → how some factors move it, for all that they move."""
    by_leaf: dict[int, list[tuple[Key, Group, tuple[Move, ...]]]] = {}
    of = {key: network.groups[key[0]].structure.factors[key[1]] for key in keys}
    for key in sorted(keys, key=lambda k: of[k].matrices):
        for leaf, moves in of[key].moves:
            by_leaf.setdefault(leaf, []).append((key, network.groups[key[0]], moves))
    return {leaf: _mover(network, leaf, found) for leaf, found in by_leaf.items()}


def _mover(
    network: Structure, leaf: int, found: Sequence[tuple[Key, Group, tuple[Move, ...]]]
) -> Mover:
    every = network.leaf_axes[leaf]
    axes = _concerned(every, [(group, m) for _, group, moves in found for m in moves])
    factors = []
    for key, group, moves in found:
        on_axes = tuple(
            Move(1 + axes.index(m.axis), (1, *(_shape(m, every)[d] for d in axes)), m.values)
            for m in moves
        )
        factor = dataclasses.replace(group.structure.factors[key[1]], moves=((0, on_axes),))
        factors.append((key, group, factor))
    return Mover(axes, tuple(every[d] for d in axes), tuple(factors))


def _concerned(axes: Axes, moves: Sequence[tuple[Group, Move]]) -> tuple[int, ...]:
    """Those on which units are moved, along which exponents vary, and which decide on others."""
    found = {m.axis for _, m in moves}
    found |= {d for _, m in moves for d, n in enumerate(_shape(m, axes)) if n > 1}
    followed = {outer for group, _ in moves for outer in group.outer}
    while True:
        followed |= {atom for d in found for atom in _followed(axes[d])}
        more = {d for d, e in enumerate(axes) if followed & {*mentioned(e), *_labels(e)}} - found
        if not more:
            return tuple(sorted(found))
        found |= more


def _shape(move: Move, axes: Axes) -> tuple[int, ...]:
    return (*[1] * (len(axes) - len(move.shape)), *move.shape)


def _followed(expr: Expr) -> Iterator[Any]:
    """The atoms that others depend on, or that families follow."""
    for atom in mentioned(expr):
        yield from atom.over
    for factor in expr:
        if isinstance(factor, Family):
            yield factor.key
        for inner in inside(factor):
            yield from _followed(inner)


def _labels(expr: Expr) -> Iterator[Any]:
    """The atoms of which parts of concatenations are an index."""
    for factor in expr:
        if isinstance(factor, Concat):
            yield from (atom for labels in factor.labels for atom, _ in labels)
        for inner in inside(factor):
            yield from _labels(inner)


__all__ = ["Mover", "movers"]
