"""The symmetries of a unit group, as values that never change."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Sequence

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

# How an element is written: of scalings c, of signs s, of matrices.
_LETTERS = {"permutation": "P", "positive": "c", "sign": "s", "general linear": "g"}
_RUNS = 4  # parts of an axis that are shown one by one
_LEAVES = 4


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

    def representation(self, kind: str) -> str:
        """What becomes of the units: `c⁻²`, `g⁻ᵀ`; `g | g⁻ᵀ | 1` for parts of the axis in a row."""
        shown = [key for key, _ in itertools.groupby(_power(kind, k) for k in self.values)]
        if len(shown) <= _RUNS:
            return " | ".join(shown)
        return f"{' or '.join(dict.fromkeys(shown))} by the entry"


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

    def describe(self, names: Sequence[str], most: int | None = None) -> str:
        """Its kind, and the representation on each leaf: `positive: w c, o c⁻¹`.

        **Arguments:**
        - `names`: of the leaves
        - `most`: how many leaves are shown
        """
        shown = [
            f"{names[leaf]} {', '.join(dict.fromkeys(m.representation(self.kind) for m in moves))}"
            for leaf, moves in self.moves[:most]
        ]
        more = [f"{len(self.moves) - len(shown)} more"] if len(shown) < len(self.moves) else []
        return f"{self.kind}: {', '.join([*shown, *more])}"

    def __repr__(self) -> str:
        last = max((leaf for leaf, _ in self.moves), default=-1)
        return f"Factor({self.describe([f'leaf {i}' for i in range(last + 1)], _LEAVES)})"


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

    def summary(self, names: Sequence[str]) -> str:
        """A line a factor: what it does to each leaf; `names` are those of the leaves.

        P, c, s, Q and g are a permutation, scales, signs, an orthogonal and an invertible matrix.

            >>> import jax, jax.numpy as jnp, mcjax
            >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) ** 2 @ p["w2"]
            >>> params = {"w1": jnp.ones((3, 5)), "w2": jnp.ones((5, 2))}
            >>> network = mcjax.trace(f, params, jnp.ones((4, 3)))
            >>> network.groups["w1"].structure
            GroupStructure(permutation × positive)
            >>> print(network.groups["w1"].structure.summary(network.leaf_names))
            permutation: w1 P, w2 P
            positive: w1 c, w2 c⁻²
        """
        return "\n".join(f.describe(names) for f in self.factors)

    def __repr__(self) -> str:
        return f"GroupStructure({' × '.join(f.kind for f in self.factors)})"


def _power(kind: str, exponent: int) -> str:
    """How an element acts where its exponent is this."""
    letter = _LETTERS.get(kind, "Q")
    if kind == "sign":
        exponent %= 2
    if exponent == 0:
        return "1"
    if letter in "PQs" or exponent == 1:
        return letter
    if kind == "general linear":
        return "g⁻ᵀ"
    return letter + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


__all__ = ["KINDS", "Factor", "GroupStructure", "Move"]
