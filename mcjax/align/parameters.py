"""Profits of matching units by their parameters: the terms that weight matching maximises."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..network.axes import Atom
from ..network.blocks import blocks
from ..network.network import Network
from ..transport.joint import GroupProblem
from ..transport.terms import Term
from .arrays import Arrays, single, times_power
from .places import JointPlace, Place, Read, places_of


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
        found = [list(places_of(network, a, outer)) for outer in self.outer]
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
        sums: dict[Any, np.ndarray] = {}
        for place in known:
            if isinstance(place, Place):
                key = place.reading.fixed, place.reading.units
                power = self.exponents[place.leaf] - largest
                sums[key] = place.add(self._reader(place, b), power, sums.get(key))
        terms = [Term(profit, fixed, units) for (fixed, units), profit in sums.items()]
        outer, joints = self.outer[i], []
        for place in used:
            if place in unknown or isinstance(place, JointPlace):
                block_a, block_b = (self._block(place, v) for v in (self.a, b))
                block_a = times_power(block_a, self.exponents[place.leaf] - largest)
                free = place.others.difference(settled or ()) if place in unknown else ()
                joints.append(place.reading.joint(block_a, block_b, outer, free))
        return GroupProblem(terms, joints, outer)

    def problems(
        self,
        b: Arrays,
        i: int,
        settled: Collection[Atom] | None = None,
        profiles: bool = False,
    ) -> tuple[Atom | None, Iterator[GroupProblem]]:
        """`problem` in parts, one for each index of a fixed axis that all of it follows (layers of
        a scan), where their products together would be larger than the parameters.

        **Returns:** (the axis, the parts one after the other); (None, the whole) without one
        """
        places = self._all(i)
        known = [p for p in places if settled is None or p.others.issubset(settled)]
        axis = self._axis(i, known) if known and not (profiles and known != places) else None
        if axis is None:
            return None, iter((self.problem(b, i, settled, profiles),))
        largest = max(self.exponents[p.leaf] for p in known)
        outer = {t: o[1:] for t, o in self.outer[i].items()}

        def parts() -> Iterator[GroupProblem]:
            for k in range(axis.size):
                sums: dict[Any, np.ndarray] = {}
                for place in known:
                    assert isinstance(place, Place)
                    key = place.reading.fixed[1:], place.reading.units
                    power = self.exponents[place.leaf] - largest
                    sums[key] = place.add_at(k, self._reader(place, b), power, sums.get(key))
                yield GroupProblem([Term(v, *names) for names, v in sums.items()], [], outer)

        return axis, parts()

    def _axis(self, i: int, places: Sequence[Place | JointPlace]) -> Atom | None:
        """A fixed axis that all groups of a cluster follow first, if none of its products there is
        kept."""
        axes = {o[0] if o else None for o in self.outer[i].values()}
        (axis,) = axes if len(axes) == 1 else (None,)
        apart = axis is not None and axis not in self.network.by_atom and all(
            isinstance(p, Place) and p.reading.fixed[:1] == (axis,) and not p.kept for p in places
        )  # fmt: skip
        return axis if apart else None

    def known(self, i: int, settled: Collection[Atom]) -> float:
        """Settled parameters for each unit of a cluster's least known group: how sure it is."""
        return self._least(i, [p for p in self._all(i) if p.others.issubset(settled)], settled)

    def complete(self, i: int, settled: Collection[Atom] | None) -> bool:
        """Whether no parameter that touches cluster i is left out."""
        return settled is None or all(p.others.issubset(settled) for p in self._all(i))

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
            # Columns that had changed before are not those that the product is of.
            if one and place.alone and place.product is not None and not place.stale.any():
                (permutation,) = permutations.values()
                place.b = self._reader(place, b)
                rows = np.flatnonzero(permutation != np.arange(len(permutation)))
                place.product[:, rows] = place.product[:, permutation[rows]]
            else:
                place.product = place.b = None  # it is computed afresh
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

    def _reader(self, place: Place, b: Arrays) -> Read:
        """Reads a place of b; it holds on to the one leaf, not to all of b."""
        leaf, axes = b[place.leaf], self.network.leaf_axes[place.leaf]
        return lambda *at: place.reading.matrix(blocks(leaf, axes)[place.block][0], *at)

    def _matrix(self, place: Place, b: Arrays) -> np.ndarray:
        return self._reader(place, b)()

    def _block(self, place: Place | JointPlace, arrays: Arrays) -> np.ndarray:
        leaf, axes = arrays[place.leaf], self.network.leaf_axes[place.leaf]
        return single(blocks(leaf, axes)[place.block][0])
