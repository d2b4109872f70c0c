"""Profits of matching units by their parameters: the terms that weight matching maximises."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .._tree import is_inexact
from ..network.axes import Atom, atoms
from ..network.blocks import Block, blocks
from ..network.layout import Layout
from ..network.network import Network
from ..transport.joint import GroupProblem
from ..transport.joints import Joint, crossed, nested
from ..transport.terms import Outer, Term, add_up

Arrays = Sequence[Any]  # float leaves as NumPy arrays, None for others
# After so many updates a product is computed afresh, so that rounding does not add up.
_MAX_UPDATES = 16


def float_arrays(leaves: Sequence[Any]) -> Arrays:
    """The float leaves on the host, in at least float32."""
    return [
        np.asarray(v, np.promote_types(v.dtype, np.float32)) if is_inexact(v) else None
        for v in leaves
    ]


# Leaves of a mean square outside 4^±_PLAIN are matched in units of their largest entry.
_PLAIN = 30
# Units so much smaller than the largest of a leaf would be lost in products in float32.
_UNEVEN = 2.0**-40


def scaled(arrays: Arrays) -> tuple[Arrays, list[int]]:
    """(arrays, exponents) with leaf = array · 2^exponent, so that products neither overflow nor
    vanish; leaves of ordinary size are not touched."""
    exponents = [0 if v is None else exponent_of(v) for v in arrays]
    pairs = zip(arrays, exponents, strict=True)
    return [v if v is None else times_power(v, -e) for v, e in pairs], exponents


def exponent_of(array: np.ndarray) -> int:
    """e where the largest entry is about 2^e and entries are of extraordinary size, else 0."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        square = float(np.vdot(array, array).real) / max(array.size, 1)
    if 4.0**-_PLAIN < square < 4.0**_PLAIN:  # the usual case costs one product
        return 0
    return math.frexp(float(np.abs(array).max(initial=0)))[1]


def inner_product(a: Arrays, b: Arrays, exponents: Sequence[int] | None = None) -> float:
    """Σ over all float parameters, each leaf's times 2^exponent; infinite beyond float64."""
    total = 0.0
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        if x is not None and y is not None:
            with np.errstate(over="ignore"):
                total += float(
                    np.ldexp(float(np.vdot(x, y).real), exponents[i] if exponents else 0)
                )
    return total


def times_power(array: np.ndarray, exponent: int) -> np.ndarray:
    """array · 2^exponent, without a factor that could overflow itself."""
    if not exponent:
        return array
    if np.iscomplexobj(array):
        real, imaginary = (np.ldexp(v, exponent) for v in (np.real(array), np.imag(array)))
        return (real + 1j * imaginary).astype(array.dtype)
    return np.ldexp(array, exponent)


def move(network: Network, permutations: Mapping[str, np.ndarray], arrays: Arrays) -> Arrays:
    """The arrays with units permuted (arrays without these groups are not copied)."""
    given = {network.groups[n].atom: np.asarray(p) for n, p in permutations.items()}
    return [
        v if v is None else network.permute_leaf(given, v, axes)
        for v, axes in zip(arrays, network.leaf_axes, strict=True)
    ]


class Products:
    """⟨unit of a, unit of b⟩ over the parameters that touch each cluster of groups.

    Late in a descent few units still move, so products are kept and only the columns that have
    changed since are added up again. Where several groups of a cluster that do not depend on
    each other stand on one block, no product is made, see `joint`: no array has more entries
    than a parameter or than a product of units on the same axis.
    """

    def __init__(
        self,
        network: Network,
        a: Arrays,
        groups: Sequence[Sequence[Atom]],
        exponents: Sequence[int] | None = None,
    ) -> None:
        self.network, self.a, self.groups = network, a, groups
        self.exponents = exponents or [0] * len(a)  # of the products of each leaf, see `scaled`
        self.outer = [{t: network.by_atom[t].outer for t in cluster} for cluster in groups]
        found = [list(_places(network, a, outer)) for outer in self.outer]
        self.places = [[p for p in of if isinstance(p, Place)] for of in found]
        self.joint_places = [[p for p in of if isinstance(p, JointPlace)] for of in found]

    def problem(
        self,
        b: Arrays,
        i: int,
        settled: Collection[Atom] | None = None,
        profiles: bool = False,
    ) -> GroupProblem:
        """What there is to maximise over cluster i against network b.

        **Arguments:**
        - `settled`: groups already matched; parameters that touch any other are left out (None:
          all count, as in coordinate descent)
        - `profiles`: do not leave them out, but compare rows sorted over units not settled, which
          no permutation of those changes
        """
        known, unknown = [], []
        for place in self._all(i):
            whole = settled is None or place.others.issubset(settled)
            (known if whole else unknown).append(place)
        used = (*known, *(unknown if profiles else ()))
        largest = max((self.exponents[p.leaf] for p in used), default=0)
        terms = [
            p.reading.term(
                times_power(p.times(self._matrix(p, b)), self.exponents[p.leaf] - largest)
            )
            for p in known
            if isinstance(p, Place)
        ]
        outer, joints = self.outer[i], []
        for place in used:
            if place in unknown or isinstance(place, JointPlace):
                block_a, block_b = (self._block(place, v) for v in (self.a, b))
                block_a = times_power(block_a, self.exponents[place.leaf] - largest)
                free = place.others.difference(settled or ()) if place in unknown else ()
                joints.append(place.reading.joint(block_a, block_b, outer, free))
        return GroupProblem(add_up(terms), joints, outer)

    def known(self, i: int, settled: Collection[Atom]) -> float:
        """Settled parameters for each unit of a cluster's least known group: how sure it is."""
        return self._least(i, [p for p in self._all(i) if p.others.issubset(settled)], settled)

    def profiles(self, i: int, settled: Collection[Atom]) -> float:
        """Rows over units not settled, for each unit of the cluster's least known group."""
        return self._least(i, [p for p in self._all(i) if not p.others.issubset(settled)], settled)

    def _all(self, i: int) -> list[Place | JointPlace]:
        return [*self.places[i], *self.joint_places[i]]

    def _least(
        self, i: int, places: Sequence[Place | JointPlace], settled: Collection[Atom]
    ) -> float:
        known = dict.fromkeys(self.groups[i], 0.0)
        for place in places:
            free = math.prod(t.size for t in place.others if t not in settled)
            for atom in place.reading.units:
                known[atom] += place.reading.entries / (atom.size * free)
        return min(known.values())

    def neighbours(self) -> list[set[int]]:
        """For each cluster, those whose permutations its terms depend on."""
        of = {atom: i for i, cluster in enumerate(self.groups) for atom in cluster}
        return [
            {of[atom] for p in (*places, *joint) for atom in p.others if atom in of}
            for places, joint in zip(self.places, self.joint_places, strict=True)
        ]

    def moved(self, i: int, permutations: Mapping[str, np.ndarray], b: Arrays) -> None:
        """Cluster i has been permuted, which gave b: so are the kept products."""
        one = len(self.groups[i]) == 1 and not self.network.by_atom[self.groups[i][0]].outer
        for place in self.places[i]:
            if one and place.alone and place.product is not None:
                (permutation,) = permutations.values()
                place.b = self._matrix(place, b)
                rows = np.flatnonzero(permutation != np.arange(len(permutation)))
                place.product[:, rows] = place.product[:, permutation[rows]]
            else:
                place.product = None  # it is computed afresh
        self.changed(
            i,
            {
                self.network.groups[n].atom: p != np.arange(p.shape[-1])
                for n, p in permutations.items()
            },
        )

    def changed(self, i: int, units: Mapping[Any, np.ndarray]) -> None:
        """These units of b (group → flags of the group's shape) are others for the clusters
        beside i."""
        for j, places in enumerate(self.places):
            for place in places if j != i else ():
                place.touch(units)

    def _matrix(self, place: Place, b: Arrays) -> np.ndarray:
        return place.reading.layout.matrix(self._block(place, b))

    def _block(self, place: Place | JointPlace, arrays: Arrays) -> np.ndarray:
        return blocks(arrays[place.leaf], self.network.leaf_axes[place.leaf])[place.block][0]


@dataclasses.dataclass(frozen=True, eq=False)
class JointPlace:
    """A block of a parameter that holds groups of a cluster that do not depend on each other."""

    leaf: int
    block: int
    reading: _Reading
    others: set[Any]  # groups on the block's other dimensions


class Place:
    """A block of a parameter that holds a cluster, and its product B Aᵀ for the last B seen.

    The product has b's units first, so that permuting them is cheap.
    """

    def __init__(
        self, leaf: int, block: int, reading: _Reading, others: set[Any], alone: bool, a: np.ndarray
    ) -> None:
        self.leaf, self.block, self.reading, self.a = leaf, block, reading, a
        self.others = others  # groups on the block's other dimensions
        self.alone = alone  # the cluster stands on no other axis of the block
        self.b: Any = None
        self.product: Any = None
        self.stale = np.zeros(a.shape[2], bool)  # columns of b that have changed since
        self.updates = 0
        self.known = False  # whether float32 is known to hold the products of all units

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
        if any(dims[i].factor in units for i in layout.fixed):
            self.product = None

    def times(self, b: np.ndarray) -> np.ndarray:
        """a bᵀ for each index of the first axis."""
        changed = np.flatnonzero(self.stale)
        if self.product is None or self.updates >= _MAX_UPDATES or 2 * len(changed) >= b.shape[2]:
            first, self.known = not self.known, True
            self.product, self.updates = _times(b, self.a), 0
            if first and _uneven(self.product):
                self.a = self.a.astype(np.promote_types(self.a.dtype, np.float64))
                self.product = _times(b, self.a)
        elif len(changed):
            difference = b[:, :, changed] - self.b[:, :, changed]
            self.product += _times(difference, self.a[:, :, changed])
            self.updates += 1
        self.b = b
        self.stale[:] = False
        return self.product.swapaxes(1, 2)


def _uneven(product: np.ndarray) -> bool:
    """Whether some units' products (on the last axis) are so small that squares would vanish."""
    if product.dtype != np.float32 or not product.size:
        return False
    least = _UNEVEN * max(product.max(), -product.min())
    if (np.abs(product[:, 0]) >= least).all():  # the usual case: one row tells
        return False
    sizes = np.maximum(product.max(1), -product.min(1))
    return bool(((sizes > 0) & (sizes < least)).any())


def _places(network: Network, a: Arrays, outer: Outer) -> Iterator[Place | JointPlace]:
    for leaf, (array, axes) in enumerate(zip(a, network.leaf_axes, strict=True)):
        if array is None or not any(t in outer for e in axes for t in atoms(e)):
            continue
        for k, (block, dims) in enumerate(blocks(array, axes)):
            for units in _occurrences(dims, outer):
                reading = _Reading.of(network, dims, units)
                rest = {d.factor for j, d in enumerate(dims) if j not in units}
                others = rest.intersection(network.by_atom)
                if nested(outer) and crossed([dims[i].factor for i in units], outer):  # type: ignore[misc]
                    yield JointPlace(leaf, k, reading, others)
                else:
                    alone = not rest.intersection(outer)
                    matrix = reading.layout.matrix(block)
                    yield Place(leaf, k, reading, others, alone, matrix)


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
class _Reading:
    """A block read as matrices, (outer fixed axes, units of the cluster, everything else)."""

    dims: Block
    layout: Layout

    @classmethod
    def of(cls, network: Network, dims: Block, units: list[int]) -> _Reading:
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
    def entries(self) -> int:
        return math.prod(self.layout.shape)

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
