"""The symmetries of a unit group, as values that never change."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

KINDS = (
    "permutation",
    "positive",
    "sign",
    "orthogonal",
    "orthogonal fixing ones",
    "general linear",
    "commutant",
)


@dataclasses.dataclass(frozen=True)
class Move:
    """What a factor does to the units on one axis of a leaf.

    - `axis`: of the leaf
    - `shape`, `values`: the exponents, broadcastable to the leaf's shape, row by row
    """

    axis: int
    shape: tuple[int, ...]
    values: tuple[int, ...]

    @classmethod
    def of(cls, axis: int, exponents: np.ndarray) -> Move:
        """Exponents, kept once along axes on which they do not vary."""
        for d, n in enumerate(exponents.shape):
            first = exponents.take([0], axis=d) if n else exponents
            if n > 1 and (exponents == first).all():
                exponents = first
        return cls(axis, exponents.shape, tuple(int(k) for k in exponents.ravel()))

    @property
    def exponents(self) -> np.ndarray:
        """An integer array, broadcastable to the leaf's shape, that cannot be written to."""
        array = np.array(self.values, int).reshape(self.shape)
        array.flags.writeable = False
        return array


@dataclasses.dataclass(frozen=True)
class Factor:
    """One independent symmetry of a group's units.

    An element is, for scalings and signs, an array c of `group.shape`, which multiplies what is
    of unit i by c[i]^k; for matrices an array g of shape (*group.shape, n): Σⱼ g[i, j] (unit j)
    for k = 1, the same with g⁻ᵀ for k = −1, and for k = 0 nothing.

    - `kind`: one of `KINDS`
    - `moves`: (number of the leaf, its moves), for each leaf that it moves
    - `primary`: whether it moves what writes the units (the scale of a norm against what reads it
      does not)
    - `limit`: what made the factor no larger
    """

    kind: str
    moves: tuple[tuple[int, tuple[Move, ...]], ...]
    primary: bool = True
    limit: str = ""

    @property
    def matrices(self) -> bool:
        return self.kind in ("orthogonal", "orthogonal fixing ones", "general linear")


@dataclasses.dataclass(frozen=True)
class GroupStructure:
    """The independent symmetries of a group, permutations first."""

    factors: tuple[Factor, ...] = ()

    def only(self, kinds: Collection[str]) -> GroupStructure:
        """Its factors of some kinds."""
        kept = [f for f in self.factors if f.kind in kinds]
        if len(kept) == len(self.factors):
            return self
        return GroupStructure(tuple(dataclasses.replace(f, limit="restricted") for f in kept))

    @property
    def symmetry(self) -> str:
        """The largest classical group that acts on what writes the units."""
        kinds = {f.kind for f in self.factors if f.primary}
        if "general linear" in kinds:
            return "general linear"
        if "orthogonal" in kinds:
            return "orthogonal"
        signed, scaled = "sign" in kinds, "positive" in kinds
        if signed and scaled:
            return "monomial"
        if scaled:
            return "positive monomial"
        return "signed permutation" if signed else "permutation"

    @property
    def limit(self) -> str:
        """What made the group no larger, in a line."""
        return "; ".join(dict.fromkeys(f.limit for f in self.factors if f.limit))


__all__ = ["KINDS", "Factor", "GroupStructure", "Move"]
