"""Profits of signs and rotations beside those of permutations: the terms of the whole group."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .._threads import one_if_small
from ..network.axes import Atom
from ..network.blocks import cut, plan
from ..network.elements import Key, factors
from ..network.network import Network
from ..transport.element_joints import JointPart
from ..transport.elements import ElementProblem, Part
from ..transport.terms import Term
from .arrays import Arrays, times_power
from .parameters import Products
from .places import JointPlace, Place

# Directions of a rotated group that are passed on by what is not settled, so many times.
_PASSES = 3
_FULL = 1e-6


@dataclasses.dataclass(frozen=True)
class Kinds:
    """Which factors of a network are signs and which rotate, by atom.

    Invertible matrices count as rotations, which is what is left of them between networks that
    are as short as they can be (`mcjax.network.balance`); of factors beside a matrix nothing.
    """

    signs: Mapping[Atom, tuple[Key, ...]]
    rotations: Mapping[Atom, Key]
    fixing: Mapping[Atom, bool]

    @classmethod
    def of(cls, network: Network) -> Kinds:
        signs, rotations, fixing = {}, {}, {}
        for group in network.groups.values():
            own = list(factors(group))
            matrices = [k for k, f in own if f.matrices]
            if matrices:
                rotations[group.atom] = matrices[0]
                kind = group.structure.factors[matrices[0][1]].kind
                fixing[group.atom] = kind == "orthogonal fixing ones"
            elif keys := tuple(k for k, f in own if f.kind == "sign"):
                signs[group.atom] = keys
        return cls(signs, rotations, fixing)

    def concern(self, atoms: Collection[Any]) -> bool:
        return any(a in self.signs or a in self.rotations for a in atoms)


class ElementProducts(Products):
    """As `Products`, with the entries that different signs act on held apart."""

    def __init__(
        self,
        network: Network,
        a: Arrays,
        groups: Sequence[Sequence[Atom]],
        exponents: Sequence[int],
        kinds: Kinds,
    ) -> None:
        super().__init__(network, a, groups, exponents)
        self.kinds = kinds
        self.signs: dict[Place | JointPlace, dict[Atom, int]] = {}
        for i, cluster in enumerate(groups):
            if kinds.concern(cluster):
                places = [p for whole in self.places[i] for p in self._apart(whole)]
                self.places[i] = places
                self.joint_places[i] = [p for p in self.joint_places[i] if self._whole(p)]

    def problem(  # type: ignore[override]
        self,
        b: Arrays,
        i: int,
        settled: Collection[Atom] | None = None,
        profiles: bool = False,
    ) -> Any:
        if not self.kinds.concern(self.groups[i]):
            return super().problem(b, i, settled, profiles)
        outer = self.outer[i]
        known, unknown, parts = [], [], []
        for place in self.places[i]:
            whole = settled is None or place.others.issubset(settled)
            (known if whole else unknown).append(place)
        beside = [p for p in self.joint_places[i] if settled is None or p.others.issubset(settled)]
        largest = max((self.exponents[p.leaf] for p in (*known, *beside)), default=0)
        products = [place.times(self._reader(place, b)) for place in known]
        for place, product in zip(known, products, strict=True):
            product = times_power(product, self.exponents[place.leaf] - largest)
            parts.append(Part(place.reading.term(product), self.signs[place]))
        atom = self.groups[i][0]
        if known and unknown and atom in self.kinds.rotations and not outer[atom]:
            told = np.sum([product.sum(0) for product in products], 0)
            parts += self._passed_on(b, atom, told, known, unknown)
        joints = []
        for place in beside:
            block_a, block_b = (self._block(place, v) for v in (self.a, b))
            block_a = times_power(block_a, self.exponents[place.leaf] - largest)
            joints.append(
                JointPart(place.reading.joint(block_a, block_b, outer), self.signs[place])
            )
        signs = {t: len(keys) for t, keys in self.kinds.signs.items()}
        return ElementProblem(parts, outer, signs, self.kinds.fixing, joints)

    def profiles(self, i: int, settled: Collection[Atom]) -> float:
        if self.kinds.concern(self.groups[i]):
            return 0.0
        plain = [
            p
            for p in self._all(i)
            if not p.others.issubset(settled)
            and not self.kinds.concern(p.others.difference(settled))
        ]
        return self._least(i, plain, settled)

    def _apart(self, place: Place) -> Iterator[Place]:
        """A place for each set of signs that act on entries of this one."""
        found = self._codes(place)
        for code in np.unique(found).tolist():
            read = place.read
            if np.ndim(found):
                read = functools.partial(np.asarray, np.where(found == code, place.a(), 0))
            one = Place(place.leaf, place.block, place.reading, place.others, place.alone, read)
            self.signs[one] = self._signs(place, code)
            yield one

    def _whole(self, place: JointPlace) -> bool:
        """Whether a block of groups beside each other can be used: each stands there once, and
        the same signs act on all entries."""
        codes, units = np.unique(self._codes(place)), place.reading.units
        self.signs[place] = self._signs(place, int(codes[0]))
        return len(codes) == 1 and len(set(units)) == len(units)

    def _signs(self, place: Place | JointPlace, code: int) -> dict[Atom, int]:
        """A code by atom."""
        signs: dict[Atom, int] = {}
        for atom in place.reading.units:
            many = len(self.kinds.signs.get(atom, ()))
            signs[atom] = code & (1 << many) - 1
            code >>= many
        return signs

    def _codes(self, place: Place | JointPlace) -> Any:
        """For each entry, which signs act on it: a bit for each sign of the place's units."""
        reading, bit, codes = place.reading, 0, 0
        leaf = place.leaf
        shape, axes = self.network.leaf_types[leaf].shape, self.network.leaf_axes[leaf]
        for i in reading.layout.units:
            atom, axis = reading.dims[i].factor, reading.dims[i].axis
            for key in self.kinds.signs.get(atom, ()):  # type: ignore[arg-type]
                factor = self.network.groups[key[0]].structure.factors[key[1]]
                for move in dict(factor.moves).get(leaf, ()):
                    if move.axis != axis:
                        continue
                    odd = move.exponents % 2
                    if odd.size == 1:
                        codes = codes + (int(odd.flat[0]) << bit)
                    else:
                        block = cut(np.broadcast_to(odd, shape), plan(axes)[0])[place.block]
                        codes = codes + (reading.layout.matrix(block) << bit)
                bit += 1
        return codes

    def _passed_on(
        self,
        b: Arrays,
        atom: Atom,
        told: np.ndarray,
        known: Sequence[Place],
        unknown: Sequence[Place],
    ) -> list[Part]:
        """Known directions x of a rotated group, passed on by what is not settled.

        Whatever is done to the other units of M, M Mᵀ x is rotated as x is; so where the known
        directions are too few to tell a rotation they become more.

        **Arguments:**
        - `told`: X_A X_Bᵀ of the known directions X of both networks
        """
        own = self._gram(self.a, known)
        with one_if_small(atom.size):
            values = np.linalg.eigvalsh(own)
        if (values > _FULL**2 * values.max(initial=0)).sum() >= atom.size:
            return []
        profit, tiny = 0.0, np.finfo(float).tiny
        for place in unknown:
            maps = [self._gram(arrays, [place]) for arrays in (self.a, b)]
            first, last = (m / max(float(np.trace(m)), tiny) for m in maps)
            seen, between = own, told
            for _ in range(_PASSES):
                seen, between = first @ seen @ first, first @ between @ last
                scale = float(np.trace(seen))  # the squared length of what A's become
                if not scale:
                    return []  # nothing is passed on
                seen, between = seen / scale, between / scale
                profit = profit + between
        return [Part(Term(np.asarray(profit) * np.trace(own), (), (atom,)), {atom: 0})]

    def _gram(self, arrays: Arrays, places: Sequence[Place]) -> np.ndarray:
        """Σ M Mᵀ in float64: the squares of small directions must not be lost."""
        total = 0.0
        for place in places:
            for m in self._matrix(place, arrays):
                m = m.astype(np.float64)
                total = total + m @ m.T
        return np.asarray(total)


__all__ = ["ElementProducts", "Kinds"]
