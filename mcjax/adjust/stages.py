"""The order in which a network turns into another, group by group (anokhin2020, Sec. 4).

A stage takes the units of some groups from network A's to network B's: everything written *into*
them moves, and the layers that read them are adjusted, so that what these write stays as it was.
In a chain of layers that is the paper's Θ_A → Θ_2 → … → Θ_n → Θ_B; with skip connections (Sec. 4.2)
the groups of a residual stream are written by many layers, which then move together.

Between stages each layer reads from and writes to units of A or of B. A layer with both ends in
the same network has that network's weights; any other is solved for by least squares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

from ..network.axes import Atom, atoms
from ..network.network import Layer, Network
from ..network.units import choose
from ..transport.terms import clusters
from .form import matrix_form

A, B = 0, 1


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """Groups that turn from A's units to B's together.

    - `readers`: numbers of the layers adjusted while they do
    - `writers`: numbers of the solvable layers that write these groups
    """

    groups: frozenset[Atom]
    readers: tuple[int, ...]
    writers: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The stages of a network, and what its parameters are between them."""

    network: Network

    @cached_property
    def solvable(self) -> dict[int, Layer]:
        """Number → layer, of the layers whose weights can be solved for."""
        found = {}
        for number, layer in enumerate(self.network.layers):
            try:
                matrix_form(self.network.analysis.program, layer, layer.contraction)
            except ValueError:
                continue
            found[number] = layer
        return found

    @cached_property
    def weights(self) -> dict[int, int]:
        """Weight leaf → number of the solvable layer."""
        return {layer.contraction.weight: n for n, layer in self.solvable.items()}

    def reads(self, number: int) -> frozenset[Atom]:
        return self._atoms(self.network.layers[number].groups_in)

    def writes(self, number: int) -> frozenset[Atom]:
        return self._atoms(self.network.layers[number].groups_out)

    def _atoms(self, names: Sequence[str]) -> frozenset[Atom]:
        return frozenset(self.network.groups[n].atom for n in names)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """In the order in which the groups are first written."""
        outer = {g.atom: g.outer for g in self.network.groups.values()}
        links = [list(self.writes(n)) for n in self.solvable]
        for leaf, axes in enumerate(self.network.leaf_axes):
            here = [{t for t in atoms(e) if t in outer} for e in axes]
            # Nothing can be solved for between two groups on such a leaf: they move together.
            if leaf not in self.weights and sum(map(bool, here)) > 1:
                links.append(list(set().union(*here)))
        out = []
        for cluster in clusters(outer, [link for link in links if len(link) > 1]):
            groups = frozenset(cluster)
            writers = tuple(n for n in self.solvable if self.writes(n) & groups)
            readers = tuple(n for n in self.solvable if self.reads(n) & groups and n not in writers)
            out.append(Stage(groups, readers, writers))
        order = list(outer)
        return tuple(sorted(out, key=lambda s: min(map(order.index, s.groups))))

    def like(self, number: int, turned: Collection[Atom]) -> int:
        """The network whose outputs a layer has when the groups in `turned` are B's."""
        writes = self.writes(number)
        return B if writes and writes <= set(turned) else A

    def exact(self, number: int, turned: Collection[Atom]) -> bool:
        """Whether a layer then has both ends in the same network."""
        reads = self.reads(number)
        if self.like(number, turned) == B:
            return reads <= set(turned)
        return not reads.intersection(turned)

    def mixed(self, a: Sequence[Any], b: Sequence[Any], turned: Collection[Atom]) -> list[Any]:
        """Leaves when the groups in `turned` are B's; layers that are not exact as in A."""
        names = [self.network.by_atom[atom].name for atom in turned]
        out = []
        for leaf, (x, y) in enumerate(zip(a, b, strict=True)):
            number = self.weights.get(leaf)
            if number is None:
                out.append(choose(self.network, leaf, names, y, x))
            elif self.like(number, turned) == B and self.exact(number, turned):
                out.append(y)
            else:
                out.append(x)
        return out
