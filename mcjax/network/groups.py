"""Unit groups and layers of a network, and where they stand in its parameters."""

from __future__ import annotations

import dataclasses

from .axes import Atom
from .layers import Contraction
from .symmetry.factors import GroupStructure


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a group stands in the parameters."""

    leaf: str
    axis: int


@dataclasses.dataclass(frozen=True)
class Group:
    """Units that may be permuted without changing the network's function.

    - `shape`: `(size,)`, or `(*outer, size)` where the permutation may differ for each index of
      outer axes: `over` names those axes (a group, or None for a fixed axis such as the layers of
      a scan)
    - `structure`: what else may be done to the units without changing the function; `symmetry`:
      the largest of `"permutation"`, `"signed permutation"`, `"positive monomial"`, `"monomial"`,
      `"orthogonal"` and `"general linear"` that it contains
    """

    name: str
    size: int
    shape: tuple[int, ...]
    over: tuple[str | None, ...]
    places: tuple[Place, ...]
    atom: Atom = dataclasses.field(repr=False)
    outer: tuple[Atom, ...] = dataclasses.field(repr=False)
    structure: GroupStructure = dataclasses.field(default_factory=GroupStructure)

    @property
    def symmetry(self) -> str:
        return self.structure.symmetry


@dataclasses.dataclass(frozen=True)
class Layer:
    """A contraction of data with a parameter, in topological order in `Network.layers`.

    `groups_in` are the groups its weight reads, `groups_out` those it writes; `kind` is
    `"dense"`, `"convolution"` or `"embedding"`.
    """

    name: str
    kind: str
    weight: str
    bias: str | None
    groups_in: tuple[str, ...]
    groups_out: tuple[str, ...]
    contraction: Contraction = dataclasses.field(repr=False, compare=False)


__all__ = ["Group", "Layer", "Place"]
