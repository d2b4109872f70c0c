"""Which scaling of a group's units makes a scale one, and what takes the scale up instead.

A scale s that only weights W read has a symmetry of its own, s ↦ s / c with W ↦ diag(c) W: a factor
of its group's structure, found by `network/symmetry/` and verified by execution. Its element c = s
absorbs the scale.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from ..axes import Atom, atoms
from ..blocks import cut, plan
from ..groups import Group
from ..layout import Layout, followed
from ..structure import Structure
from ..symmetry.act import transform_leaf
from ..symmetry.factors import Factor, Move
from .flow import Flow


@dataclasses.dataclass(frozen=True)
class Step:
    """A part of a scale, taken up by other leaves.

    - `scale`: number of the leaf
    - `group`: whose units are scaled by it (over the layers of a loop, each by its own)
    - `factor`: the scaling whose element the scale is: exponent −1 on the scale itself
    """

    scale: int
    group: Group
    factor: Factor

    @property
    def divided(self) -> tuple[int, ...]:
        """The leaves that are divided by the scale: what is added to what it scales."""
        return tuple(
            leaf
            for leaf, moves in self.factor.moves
            if leaf != self.scale and any((m.exponents < 0).any() for m in moves)
        )

    def element(self, network: Structure, scale: Any) -> Any:
        """The entries of the scale that the factor moves, one for each unit."""
        (move,) = dict(self.factor.moves)[self.scale]
        parts = list(_parts(network, self.group, move, self.scale))
        number, layout, column = parts[0]
        how, _ = plan(network.leaf_axes[self.scale])
        block = cut(scale, how)[number]
        return layout.matrix(block)[..., column].reshape(self.group.shape)

    def apply(self, network: Structure, element: Any, number: int, leaf: Any) -> Any:
        """Another leaf with its part of the scale."""
        axes = network.leaf_axes[number]
        return transform_leaf(self.group, self.factor, element, number, leaf, axes)


def candidates(network: Structure) -> tuple[int, ...]:
    """The leaves that scale a group's units."""
    return tuple(
        i
        for i, (role, axes) in enumerate(zip(network.roles, network.leaf_axes, strict=True))
        if role == "scale" and any(a in network.by_atom for e in axes for a in atoms(e))
    )


def steps(flow: Flow, scale: int, others: Collection[int]) -> tuple[Step, ...]:
    """The steps by which every entry of a scale becomes one; none where there are no such.

    **Arguments:**
    - `others`: scales that must not take up anything
    """
    network = flow.network
    on = {a for e in network.leaf_axes[scale] for a in atoms(e)} & set(network.by_atom)
    groups = sorted((network.by_atom[a] for a in on), key=lambda g: -len(g.shape))
    for group in groups:
        found = tuple(_of_group(flow, group, scale, others))
        covered = [
            np.broadcast_to(abs(dict(s.factor.moves)[scale][0].exponents),
                            network.leaf_types[scale].shape)
            for s in found
        ]  # fmt: skip
        if found and (np.sum(covered, 0) == 1).all():
            return found
    return ()


def _of_group(flow: Flow, group: Group, scale: int, others: Collection[int]) -> Iterator[Step]:
    factors = group.structure.factors
    signs = [_parities(f) for f in factors if f.kind == "sign"]
    for factor in factors:
        moves = dict(factor.moves)
        if factor.kind != "positive" or scale not in moves or moves.keys() & set(others):
            continue
        if len(moves[scale]) > 1 or _parities(factor) not in signs:  # it must hold for s < 0, too
            continue
        (move,) = moves[scale]
        present = {int(k) for k in move.values} - {0}
        layers = _layers(flow, factor)
        over = group
        if layers is not None and layers not in group.outer:
            over = dataclasses.replace(
                group, shape=(layers.size, *group.shape), outer=(layers, *group.outer)
            )
        if present in ({1}, {-1}) and len(list(_parts(flow.network, over, move, scale))) == 1:
            yield Step(scale, over, _turned(factor, -present.pop()))


def _layers(flow: Flow, factor: Factor) -> Atom | None:
    """The layers of a scan, if each can be scaled by its own: nothing else is moved than what
    comes in slices."""
    found = set()
    for leaf, moves in factor.moves:
        value, first = flow.program.inputs[leaf], flow.network.leaf_axes[leaf][0]
        readers, inside = flow.readers.get(value, []), flow.inside.get(value, [])
        if len(readers) != 1 or len(inside) != 1 or not flow.origins.scanned[inside[0]][1]:
            return None
        if any(m.shape[0] > 1 or m.axis == 0 for m in moves):
            return None
        found.add((readers[0].index, first))
    ((_, axis),) = found if len(found) == 1 else (((), ()),)
    (atom,) = axis if len(axis) == 1 else (None,)
    return atom if isinstance(atom, Atom) and atom.fixed else None


def _parities(factor: Factor) -> Any:
    """The exponents modulo two, as far as they are odd."""
    return {
        leaf: odd
        for leaf, moves in factor.moves
        if (odd := {(m.axis, Move.of(m.axis, abs(m.exponents) % 2)) for m in moves
                    if (m.exponents % 2).any()})
    }  # fmt: skip


def _turned(factor: Factor, sign: int) -> Factor:
    moves = tuple(
        (leaf, tuple(Move.of(m.axis, sign * m.exponents) for m in of)) for leaf, of in factor.moves
    )
    return dataclasses.replace(factor, moves=moves)


def _parts(
    network: Structure, group: Group, move: Move, leaf: int
) -> Iterator[tuple[int, Layout, int]]:
    """(block, its layout, column) of each vector of the leaf that a factor moves."""
    how, dims = plan(network.leaf_axes[leaf])
    shape = network.leaf_types[leaf].shape
    exponents = cut(np.broadcast_to(move.exponents, shape), how)
    for number, (block, of) in enumerate(zip(exponents, dims, strict=True)):
        for i, dim in enumerate(of):
            if dim.factor is not group.atom or dim.axis != move.axis:
                continue
            layout = Layout(np.shape(block), followed(of, i, group.outer), (i,))
            if layout.sizes((*layout.fixed, i)) != group.shape:
                continue
            moved = layout.matrix(block).any((0, 1))
            yield from ((number, layout, int(column)) for column in np.flatnonzero(moved))


__all__ = ["Step", "candidates", "steps"]
