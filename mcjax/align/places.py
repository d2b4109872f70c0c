"""Where a cluster of groups stands on parameters, and the products of units there."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..network.axes import Atom, atoms
from ..network.blocks import Block, blocks
from ..network.layout import Layout
from ..network.network import Network
from ..transport.joints import Joint, crossed, nested
from ..transport.terms import Outer, Term
from .arrays import Arrays, single, times_power

# The block of a network as matrices (outer fixed axes, units of the cluster, everything else); of
# an index, at that one of the first fixed axis.
Read = Callable[..., np.ndarray]

# After so many updates a product is computed afresh, so that rounding does not add up.
_MAX_UPDATES = 16
# Units so much smaller than the largest of a leaf would be lost in products in float32.
_UNEVEN = 2.0**-40


@dataclasses.dataclass(frozen=True, eq=False)
class JointPlace:
    """A block of a parameter that holds groups of a cluster that do not depend on each other."""

    leaf: int
    block: int
    reading: Reading
    others: set[Any]  # groups on the block's other dimensions


class Place:
    """A block of a parameter that holds a cluster, and its product B Aᵀ for the last B seen.

    The product has b's units first, so that permuting them is cheap. One that has more entries
    than the block is not kept.

    - `read`: the block of a as matrices, which are made anew each time: where units stand on an
      inner axis they are a copy
    - `b`: the same of b, as it was when the product was made
    """

    def __init__(
        self, leaf: int, block: int, reading: Reading, others: set[Any], alone: bool,
        read: Read,
    ) -> None:  # fmt: skip
        self.leaf, self.block, self.reading, self.read = leaf, block, reading, read
        self.others = others  # groups on the block's other dimensions
        self.alone = alone  # the cluster stands on no other axis of the block
        self.b: Read | None = None
        self.product: Any = None
        self.stale = np.zeros(reading.layout.columns, bool)  # columns of b that have changed since
        self.updates = 0
        self.known = False  # whether float32 is known to hold the products of all units
        self.wide = False  # whether it is known not to

    def a(self, *at: int) -> np.ndarray:
        a = self.read(*at)
        return a.astype(np.promote_types(a.dtype, np.float64)) if self.wide else a

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the product."""
        layout = self.reading.layout
        return (*layout.sizes(layout.fixed), *2 * layout.sizes(layout.units))

    @property
    def kept(self) -> bool:
        """Whether the product is kept: it has no more entries than the block."""
        return math.prod(self.shape) <= self.reading.entries

    def touch(self, units: Mapping[Any, np.ndarray]) -> None:
        """Units of other groups have changed: note which columns of b do."""
        if self.product is None or not self.others.intersection(units):
            return
        layout, dims = self.reading.layout, self.reading.dims
        grid = self.stale.reshape(layout.sizes(layout.rest))
        for axis, i in enumerate(layout.rest):
            changed = units.get(dims[i].factor)
            if changed is not None and changed.ndim == 1 and grid.shape[axis] > 1:
                grid[(slice(None),) * axis + (changed,)] = True
            elif changed is not None:
                grid[...] = True
        most = 2 * int(self.stale.sum()) >= self.stale.size  # it would be computed afresh
        if most or any(dims[i].factor in units for i in layout.fixed):
            self.product = self.b = None

    def add(self, read: Read, power: int, total: np.ndarray | None) -> np.ndarray:
        """`total` (which is written to) + 2^power a bᵀ for each index of the first axis, as
        (fixed…, units…, units…)."""
        shape = self.shape
        if self.kept:
            product = times_power(self.times(read), power).reshape(shape)
            if total is None:
                return product.copy() if np.shares_memory(product, self.product) else product
            return _added(total, product)
        a, b = self.a(), read()
        if total is None or power or not self.known:
            product = _times(a, b)
            if not self.known and _uneven(product.swapaxes(1, 2)):
                self.wide = True
                product = _times(self.a(), b)
            self.known, product = True, times_power(product, power).reshape(shape)
            return product if total is None else _added(total, product)
        flat = total.reshape(len(b), *2 * (b.shape[1],))
        for k in range(len(b)):
            flat[k] += _times(a[k : k + 1], b[k : k + 1])[0]
        return total

    def add_at(self, k: int, read: Read, power: int, total: np.ndarray | None) -> np.ndarray:
        """`add` at index k of the first fixed axis; nothing is kept."""
        b = read(k)
        product = _times(self.a(k), b)
        if not self.wide and _uneven(product.swapaxes(1, 2)):
            self.wide = True
            product = _times(self.a(k), b)
        product = times_power(product, power).reshape(self.shape[1:])
        return product if total is None else _added(total, product)

    def times(self, read: Read) -> np.ndarray:
        """a bᵀ for each index of the first axis."""
        changed, b = np.flatnonzero(self.stale), read()
        if self.product is None or self.updates >= _MAX_UPDATES or 2 * len(changed) >= b.shape[2]:
            first, self.known = not self.known, True
            self.product, self.updates = _times(b, self.a()), 0
            if first and _uneven(self.product):
                self.wide = True
                self.product = _times(b, self.a())
        elif len(changed):
            assert self.b is not None  # there is a product
            difference = b[:, :, changed] - self.b()[:, :, changed]
            self.product += _times(difference, self.a()[:, :, changed])
            self.updates += 1
        self.b = read
        self.stale[:] = False
        return self.product.swapaxes(1, 2)


def _added(total: np.ndarray, product: np.ndarray) -> np.ndarray:
    """The sum, in the place of `total` where its type holds it."""
    fits = total.dtype == np.result_type(total, product)
    return np.add(total, product, total if fits else None)


def _uneven(product: np.ndarray) -> bool:
    """Whether some units' products (on the last axis) are so small that squares would vanish."""
    if product.dtype != np.float32 or not product.size:
        return False
    least = _UNEVEN * max(product.max(), -product.min())
    if (np.abs(product[:, 0]) >= least).all():  # the usual case: one row tells
        return False
    sizes = np.maximum(product.max(1), -product.min(1))
    return bool(((sizes > 0) & (sizes < least)).any())


def places_of(network: Network, a: Arrays, outer: Outer) -> Iterator[Place | JointPlace]:
    for leaf, (array, axes) in enumerate(zip(a, network.leaf_axes, strict=True)):
        if array is None or not any(t in outer for e in axes for t in atoms(e)):
            continue
        for k, (block, dims) in enumerate(blocks(array, axes)):
            for units in _occurrences(dims, outer):
                reading = Reading.of(network, dims, units)
                rest = {d.factor for j, d in enumerate(dims) if j not in units}
                others = rest.intersection(network.by_atom)
                if nested(outer) and crossed([dims[i].factor for i in units], outer):  # type: ignore[misc]
                    yield JointPlace(leaf, k, reading, others)
                else:
                    alone = not rest.intersection(outer)

                    read = functools.partial(reading.matrix, block)
                    yield Place(leaf, k, reading, others, alone, read)


def _times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.real(a @ (np.conj(b) if np.iscomplexobj(b) else b).swapaxes(1, 2))


def _occurrences(dims: Block, outer: Outer) -> list[list[int]]:
    """Dimensions that hold the cluster: all at once, or axis by axis where a group stands twice.

    Inside an outer group that stands once, a group may stand twice.
    """
    here = [i for i, d in enumerate(dims) if d.factor in outer]
    if not here:
        return []
    count = Counter(dims[i].factor for i in here)
    if all(n == 1 or (outer[t] and count[outer[t][0]] == 1) for t, n in count.items()):  # type: ignore[index]
        return [here]
    by_axis: dict[int, list[int]] = {}
    for i in here:
        by_axis.setdefault(dims[i].axis, []).append(i)
    out = []
    for group in by_axis.values():
        twice = len({dims[i].factor for i in group}) < len(group)
        out.extend([[i] for i in group] if twice else [group])
    return out


@dataclasses.dataclass(frozen=True)
class Reading:
    """A block read as matrices, (outer fixed axes, units of the cluster, everything else)."""

    dims: Block
    layout: Layout

    @classmethod
    def of(cls, network: Network, dims: Block, units: list[int]) -> Reading:
        needed = {o for i in units for o in network.group_of(dims[i]).outer}
        own = {dims[i].factor for i in units}
        fixed = tuple(
            i for i, d in enumerate(dims)
            if d.factor in needed - own and i not in units and d.only is None
        )  # fmt: skip
        return cls(dims, Layout(tuple(d.size for d in dims), fixed, tuple(units)))

    def atoms(self, which: Sequence[int]) -> tuple[Atom, ...]:
        return tuple(self.dims[i].factor for i in which)  # type: ignore[misc]

    @property
    def units(self) -> tuple[Atom, ...]:
        return self.atoms(self.layout.units)

    @property
    def fixed(self) -> tuple[Atom, ...]:
        return self.atoms(self.layout.fixed)

    @property
    def entries(self) -> int:
        return math.prod(self.layout.shape)

    def matrix(self, block: np.ndarray, *at: int) -> np.ndarray:
        """A block as matrices, in at least float32: whole, or at an index of the first fixed axis,
        which is then 1 long."""
        layout = self.layout
        for k in at:
            first = (slice(None),) * layout.fixed[0]
            block = block[(*first, slice(k, k + 1))]
            layout = dataclasses.replace(layout, shape=block.shape)
        return layout.matrix(single(block))

    def joint(
        self, a: np.ndarray, b: np.ndarray, outer: Outer, more: Collection[Any] = ()
    ) -> Joint:
        """The blocks with each unit on a dimension of its own, those of the groups `more` too."""
        fixed, rest = self.layout.fixed, self.layout.rest
        # Outer groups first, so that one pair's block lies together.
        units = sorted(self.layout.units, key=lambda i: len(outer[self.dims[i].factor]))  # type: ignore[index]
        units += [i for i in rest if self.dims[i].factor in more]
        order = [*fixed, *units, *(i for i in rest if i not in units)]
        shape = (*self.layout.sizes(fixed), *self.layout.sizes(units), -1)
        return Joint(
            np.ascontiguousarray(np.transpose(a, order)).reshape(shape),
            np.ascontiguousarray(np.transpose(b, order)).reshape(shape),
            self.atoms(fixed),
            self.atoms(units),
            tuple(self.dims[i].axis for i in units),
        )

    def term(self, product: np.ndarray) -> Term:
        fixed, units = self.layout.fixed, self.layout.units
        sizes = self.layout.sizes(units)
        shape = (*self.layout.sizes(fixed), *sizes, *sizes)
        return Term(product.reshape(shape), self.atoms(fixed), self.atoms(units))
