"""The symmetries of every unit group: the exponents that satisfy what the program requires."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from ..axes import Atom
from ..groups import Group
from ..network import Network
from ..sides import uses
from . import loops, moving, sums  # noqa: F401  # they register what the walk handles
from .factors import Factor, GroupStructure, Move
from .systems import CONSTANT, NONE, Constraints, Solution, System
from .values import Value
from .walk import Walk

Places = Mapping[tuple[int, int], np.ndarray]  # (leaf, axis) → the unknowns of an atom there
_ORDER = {"variance": 2, "scale": 3, "mean": 4, "bias": 6}  # the last are chosen freely
_WRITER = 7


def with_structures(network: Network) -> Network:
    """The network with the symmetries of its groups, not yet verified."""
    if not network.groups:
        return network
    walk = Walk(network.analysis, network.leaf_axes)
    c, used = walk.constraints, uses(network)
    over = {o for g in network.groups.values() for o in g.atom.over}
    rows = {name: _rows(c, system) for name, system in _systems(c).items()}
    found: dict[str, GroupStructure] = {}
    for group in network.groups.values():
        places = _places(group.atom, walk.leaves)
        writes = {
            (leaf, axis)
            for leaf, axis in places
            for u in used.get(leaf, ())
            if group.atom in u.writes and (u.out is None or axis in u.out)
        }
        search = _Search(c, group.atom, places, writes, network.roles, rows)
        found[group.name] = search.structure(group.atom in over)
    nested = {n: _without_repeated(n, network, found) for n in found}
    groups = {n: dataclasses.replace(g, structure=nested[n]) for n, g in network.groups.items()}
    return dataclasses.replace(network, groups=groups)


def _systems(c: Constraints) -> dict[str, System]:
    return {"positive": c.positive, "sign": c.sign, "matrix": c.matrix}


def _rows(c: Constraints, system: System) -> dict[Atom, list[dict[Any, Any]]]:
    """The equations by atom."""
    found: dict[Atom, list[dict[Any, Any]]] = {}
    for row in system.rows:
        row_atom = c.atom(next(v for v in row if isinstance(v, int))) if _named(row) else None
        reduced = system.classes(row)
        if row_atom is not None and reduced:
            found.setdefault(row_atom, []).append(reduced)
    return found


def _named(row: Mapping[Any, Any]) -> bool:
    return any(isinstance(v, int) and v != NONE for v in row)


def _places(atom: Atom, leaves: Sequence[Value]) -> Places:
    return {
        (number, axis): array
        for number, value in enumerate(leaves)
        for (a, axis), array in value.unknowns.items()
        if a is atom
    }


class _Search:
    """All factors of one atom."""

    def __init__(
        self,
        constraints: Constraints,
        atom: Atom,
        places: Places,
        writes: set[tuple[int, int]],
        roles: Sequence[str],
        rows: Mapping[str, Mapping[Atom, list[dict[Any, Any]]]],
    ) -> None:
        self.c, self.atom, self.places = constraints, atom, places
        self.writes = writes or set(places)  # what no layer writes (LoRA) is written by all
        self.roles = roles
        self.rows = {name: of.get(atom, []) for name, of in rows.items()}

    def structure(self, outer: bool) -> GroupStructure:
        """`outer`: whether other units are inside these, which no matrix can mix."""
        matrices = self.matrices(outer)
        kind = matrices.kind if matrices else ""
        # Nothing beside matrices: it would not commute with them.
        scalings = [] if matrices else self.scalings("positive")
        signs = [] if matrices else self.scalings("sign")
        permuted = {place: np.where(a > NONE, 1, 0) for place, a in self.places.items()}
        limits = [] if kind == "general linear" else [self._limit(kind, scalings, signs)]
        permutation = self._factor("permutation", permuted, "; ".join(filter(None, limits)))
        both = [permutation, *scalings, *signs, *([matrices] if matrices else [])]
        return GroupStructure(tuple(both))

    def _limit(self, kind: str, scalings: Sequence[Factor], signs: Sequence[Factor]) -> str:
        words = []
        for name, found in (("scaling", scalings), ("sign", signs)):
            system = "positive" if name == "scaling" else "sign"
            why = self.c.zeroed.get((system, self.atom))
            if why and not any(f.primary for f in found) and not kind:
                words.append((why, name))
        why = self.c.killed.get(self.atom)
        if why:
            words.append((why, "rotation"))
        by: dict[str, list[str]] = {}
        for why, name in words:
            by.setdefault(why, []).append(name)
        return "; ".join(f"{why} admits no {' or '.join(names)}" for why, names in by.items())

    # -- scalings and signs -----------------------------------------------------------------

    def scalings(self, kind: str) -> list[Factor]:
        """Independent scalings, or signs."""
        system = _systems(self.c)[kind]
        solution = Solution(self.rows[kind], self._rank(system), system.modulus)
        classes = self._classes(system)
        return [
            self._factor(kind, self._filled(system, _whole(values)))
            for values in solution.basis(sorted(classes))
        ]

    def _classes(self, system: System) -> set[int]:
        found = {int(a) for array in self.places.values() for a in np.unique(array)}
        return {system.find(a) for a in found} - {NONE}

    def _rank(self, system: System):
        """Unknowns of no parameter are expressed by others, those of writers by none."""
        order: dict[Any, tuple[int, int]] = {CONSTANT: (9, 0)}
        for place, array in self.places.items():
            written = place in self.writes
            level = _WRITER if written else _ORDER.get(self.roles[place[0]], 1)
            for a in np.unique(array):
                if a > NONE:
                    root = system.find(int(a))
                    order[root] = max(order.get(root, (0, 0)), (level, -root))
        return lambda v: order.get(v) or (0, -v)

    def _filled(self, system: System, values: Mapping[Any, int]) -> dict[tuple[int, int], Any]:
        """Exponents in the place of unknowns."""
        return {place: _mapped(array, partial(_value, system, values))
                for place, array in self.places.items()}  # fmt: skip

    def _factor(self, kind: str, exponents: Mapping[tuple[int, int], Any], limit="") -> Factor:
        moves: dict[int, list[Move]] = {}
        for (leaf, axis), array in exponents.items():
            if array.any():
                moves.setdefault(leaf, []).append(Move.of(axis, array))
        primary = any(exponents[place].any() for place in self.writes)
        ordered = tuple((leaf, tuple(of)) for leaf, of in sorted(moves.items()))
        return Factor(kind, ordered, primary or kind == "permutation", limit)

    # -- matrices ----------------------------------------------------------------------------

    def matrices(self, outer: bool) -> Factor | None:
        """The largest group of matrices: all invertible ones, or orthogonal ones."""
        if outer or self.atom in self.c.killed or self.atom.size < 2:
            return None
        system = self.c.matrix
        solution = Solution(self.rows["matrix"], self._rank(system), 2)
        present = {place: np.where(a > NONE, 1, 0) for place, a in self.places.items()}
        if self.atom in self.c.ones:
            why = f"{self.c.ones[self.atom]} keeps the constant vector"
            return self._factor("orthogonal fixing ones", present, why)
        if CONSTANT in solution.pivots:
            return self._factor("orthogonal", present, "a norm keeps lengths")
        values = solution.extend({CONSTANT: 1})
        chosen = self._filled(system, values)
        exponents = (chosen[k][self.places[k] > NONE] for k in sorted(self.writes))
        one = next((e.flat[0] for e in exponents if e.size), 1)  # a stack may hold no layers
        signs = {k: np.where(self.places[k] > NONE, np.where(v == one, 1, -1), 0)
                 for k, v in chosen.items()}  # fmt: skip
        return self._factor("general linear", signs)


def _mapped(array: np.ndarray, function) -> np.ndarray:
    values, index = np.unique(array, return_inverse=True)
    return np.array([function(int(v)) for v in values], int)[index].reshape(array.shape)


def _value(system: System, values: Mapping[Any, int], a: int) -> int:
    return int(values.get(system.find(a), 0)) if a > NONE else 0


def _whole(values: Mapping[Any, Any]) -> dict[Any, int]:
    """Multiplied by what makes all of them integers."""
    common = math.lcm(*(Fraction(v).denominator for v in values.values()))
    return {k: int(v * common) for k, v in values.items()}


# -- units inside others -------------------------------------------------------------------


def _without_repeated(
    name: str, network: Network, found: Mapping[str, GroupStructure]
) -> GroupStructure:
    """Without the scalings of outer units that those of the units inside them are already."""
    group, structure = network.groups[name], found[name]
    inner = [found[g.name] for g in network.groups.values() if group.atom in g.atom.over]
    kept = list(structure.factors)
    for kind in ("positive", "sign") if inner else ():
        spanned = [f for s in inner for f in s.factors if f.kind in (kind, "general linear")]
        if kind == "sign":
            spanned += [f for s in inner for f in s.factors if f.kind == "orthogonal"]
        own = [f for f in structure.factors if f.kind == kind]
        new = _independent([*spanned, *own], network, 2 if kind == "sign" else 0)
        for f, is_new in zip(own, new[len(spanned) :], strict=True):
            if not is_new:
                kept.remove(f)
    return GroupStructure(tuple(kept))


def _independent(factors: Sequence[Factor], network: Network, modulus: int) -> list[bool]:
    """Of each factor, whether what it does to the leaves is no sum of what those before it do."""
    effects = [_effect(f, network) for f in factors]
    columns = []
    for leaf in dict.fromkeys(leaf for of in effects for leaf in of):
        found = [of.get(leaf) for of in effects]
        shape = np.max([v.shape for v in found if v is not None], 0)
        table = np.zeros((len(factors), *shape), int)
        for row, v in zip(table, found, strict=True):
            if v is not None:
                row[...] = v
        columns.append(table.reshape(len(factors), -1))
    if not columns:
        return [False] * len(factors)
    # Positions at which each factor does the same, thousands of a wide layer, count once.
    table = np.unique(np.concatenate(columns, 1), axis=1)
    if modulus:
        table %= modulus
    solution, number = Solution((), int, modulus), int if modulus else Fraction
    return [solution.add({k: number(v) for k, v in enumerate(r) if v}) for r in table.tolist()]


def _effect(factor: Factor, network: Network) -> dict[int, np.ndarray]:
    """Leaf → its exponents, along the axes on which they differ, if all units are alike."""
    out = {}
    for leaf, moves in factor.moves:
        shape = tuple(
            n if any(m.shape[d] > 1 for m in moves) else 1
            for d, n in enumerate(network.leaf_types[leaf].shape)
        )
        out[leaf] = np.sum([np.broadcast_to(m.exponents, shape) for m in moves], 0)
    return out


def without(groups: Mapping[str, Group], dropped: Sequence[tuple[str, Factor]]) -> dict[str, Group]:
    """Groups without some factors of theirs."""
    out = dict(groups)
    for name, factor in dropped:
        kept = tuple(f for f in out[name].structure.factors if f is not factor)
        out[name] = dataclasses.replace(out[name], structure=GroupStructure(kept))
    return out


__all__ = ["with_structures", "without"]
