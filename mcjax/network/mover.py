"""Random elements applied to a drawn leaf: whole, or at one turn of the scan that reads it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._tree import at_least_single
from .axes import Atom, Axes, atoms, mentioned
from .blocks import cut, join, plan
from .groups import Group
from .host import widen, widened
from .permuting import permute_leaf
from .structure import Structure
from .symmetry.act import scales_of, transform_leaf
from .symmetry.factors import Factor, Move

Element = tuple[Group, Factor, np.ndarray]  # of a group, one of its factors, what is done
_BLOCK = 1 << 15  # numbers that are multiplied together: they stay in the processor's cache


def layers_of(axes: Axes) -> Atom | None:
    """The fixed atom that is a leaf's first axis and stands nowhere else on it, if there is one."""
    if not axes or len(axes[0]) != 1:
        return None
    (first,) = axes[0]
    alone = isinstance(first, Atom) and all(first not in mentioned(e) for e in axes[1:])
    return first if alone and first.fixed else None  # type: ignore[union-attr]


class Mover:
    """What a run does to one leaf: units permuted, then matrices, then scalings and signs.

    All of these are symmetries, so any order is one. Scalings are one array for all that vary along
    the same axes: a stack of layers is multiplied twice, however many factors each layer has. Signs
    round nothing; everything else is computed in float64.

    **Arguments:**
    - `number`: of the leaf
    - `given`: atom → indices, for the groups that are permuted
    - `elements`: of other factors
    """

    def __init__(
        self, network: Structure, number: int, given: Mapping[Atom, np.ndarray],
        elements: Sequence[Element],
    ) -> None:  # fmt: skip
        self.network, self.number, self.given = network, number, given
        self.axes, self.shape = network.leaf_axes[number], network.leaf_types[number].shape
        moving = [e for e in elements if any(n == number for n, _ in e[1].moves)]
        self.matrices = [e for e in moving if e[1].matrices]
        self.scalings = [e for e in moving if not e[1].matrices]
        self.wide = any(factor.kind != "sign" for _, factor, _ in moving)

    @functools.cached_property
    def scales(self) -> list[list[np.ndarray]]:
        return scales_of(self.scalings, self.number, self.shape, self.axes)

    def __call__(self, value: Any) -> Any:
        """The whole leaf, moved."""
        return self._moved(value, self.axes, self.given, self.network.by_atom, self.matrices,
                           self.scales)  # fmt: skip

    def turn(self, value: Any, k: int) -> Any:
        """The leaf at index k of its first axis, moved as in the whole leaf (`layers_of`)."""
        known, axes, layers = self.network.by_atom, self.axes[1:], layers_of(self.axes)
        here = [a for e in axes for a in atoms(e) if a in known]
        groups = {a: _at(known[a], layers) for a in here}
        given = {a: _part(known[a], self.given[a], layers, k) for a in here if a in self.given}
        matrices = [
            (groups[group.atom], _turned(factor, self.number, k), _part(group, g, layers, k))
            for group, factor, g in self.matrices
        ]
        scales = [[c[k % len(c)] for c in of] for of in self.scales]
        return self._moved(value, axes, given, groups, matrices, scales)

    def _moved(
        self, value: Any, axes: Axes, given: Mapping[Atom, np.ndarray],
        groups: Mapping[Atom, Group], matrices: Sequence[Element],
        scales: Sequence[Sequence[np.ndarray]],
    ) -> Any:  # fmt: skip
        value = permute_leaf(groups, given, value, axes)
        for group, factor, element in matrices:
            value = transform_leaf(group, factor, element, self.number, widen(value), axes)
        if not any(scales):
            return value
        how, _ = plan(axes)
        dtype = widened(value.dtype) if self.wide else value.dtype
        pairs = zip(cut(value, how), scales, strict=True)
        return join((_scaled(block, of, dtype) for block, of in pairs), how, value.shape)


def _scaled(block: np.ndarray, scales: Sequence[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """A block times arrays that are broadcast against it, in a type; part after part."""
    out, single = np.empty(block.shape, dtype), at_least_single(dtype)
    rows, into = np.atleast_1d(block), np.atleast_1d(out)
    scales = [np.atleast_1d(c).astype(np.finfo(single).dtype) for c in scales]
    step = max(1, _BLOCK * len(rows) // max(rows.size, 1))
    buffer = np.empty((min(step, len(rows)), *rows.shape[1:]), single) if single != dtype else None
    for start in range(0, len(rows), step):
        here = into[start : start + step]
        part = here if buffer is None else buffer[: len(here)]
        part[...] = rows[start : start + step]
        for c in scales:
            part *= c[start : start + step] if len(c) > 1 else c
        if buffer is not None:
            here[...] = part
    return out


def _at(group: Group, layers: Atom | None) -> Group:
    """A group at one index of an atom."""
    if layers not in group.outer:
        return group
    at = group.outer.index(layers)
    outer, shape = ((*of[:at], *of[at + 1 :]) for of in (group.outer, group.shape))
    return dataclasses.replace(group, outer=outer, shape=shape)


def _part(group: Group, element: np.ndarray, layers: Atom | None, k: int) -> np.ndarray:
    """What of an element is at index k of an atom."""
    return element.take(k, group.outer.index(layers)) if layers in group.outer else element


def _turned(factor: Factor, number: int, k: int) -> Factor:
    """A factor as it moves a leaf at index k of its first axis."""
    moves = []
    for move in dict(factor.moves)[number]:
        exponents = move.exponents[k % len(move.exponents)]
        moves.append(Move(move.axis - 1, exponents.shape, tuple(exponents.ravel().tolist())))
    return dataclasses.replace(factor, moves=((number, tuple(moves)),))


__all__ = ["Element", "Mover", "layers_of"]
