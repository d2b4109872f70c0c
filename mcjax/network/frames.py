"""Orders, axes and signs of units that do not depend on the representative of an orbit.

After `balance` only permutations, rotations and signs are left, and lengths of rows and eigenvalues
of their Gram matrices do not change under any of those, of whatever group. So units are sorted by
the lengths of their rows, and units that rotate turned to the eigenvectors of their Gram matrix.
Signs, and what rotates where eigenvalues coincide, follow from a fixed linear function of the rows
over columns that are settled already, group after group from the inputs and outputs inwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..symmetry.matrices import around_ones, beside_ones
from .blocks import plan
from .elements import Key, factors
from .groups import Group
from .network import Network
from .stands import Stand, stands
from .symmetry.act import transform_leaf
from .symmetry.factors import Factor

Leaves = Sequence[Any]  # NumPy arrays by number, None for what is not floating-point

_SAME = 1e-6  # relative difference of lengths, or of eigenvalues, that rounding may exchange
_NOTHING = 1e-9  # relative to what it is a sum of: it has no sign


def weight_of(leaf: int) -> float:
    """In sums over leaves, so that none that are equal by construction coincide."""
    return 1 + (leaf * 0.6180339887498949) % 1


def everywhere(group: Group) -> Key:
    """The permutations, which move units wherever they stand."""
    kinds = [f.kind for f in group.structure.factors]
    return group.name, kinds.index("permutation")


def rows_of(network: Network, stand: Stand, leaf: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The rows of a stand, real ones: imaginary parts are columns of their own."""
    rows = stand.rows(leaf, plan(network.leaf_axes[stand.leaf])[0], shape)
    return np.concatenate([rows.real, rows.imag], -1) if np.iscomplexobj(rows) else rows


def matrices_of(group: Group) -> tuple[Key, Factor] | None:
    return next((pair for pair in factors(group) if pair[1].matrices), None)


# -- orders ----------------------------------------------------------------------------------


def order(network: Network, group: Group, leaves: Leaves) -> tuple[np.ndarray, int]:
    """(index array, how many units only their old order tells apart): by length, longest first."""
    by_leaf: dict[int, np.ndarray] = {}
    for stand in stands(network, everywhere(group)):
        if leaves[stand.leaf] is not None:
            rows = rows_of(network, stand, leaves[stand.leaf], group.shape)
            total = by_leaf.setdefault(stand.leaf, np.zeros(group.shape))
            total[stand.index] += (rows**2).sum(-1)
    total = sum((weight_of(k) * v for k, v in by_leaf.items()), np.zeros(group.shape))
    stack = np.stack([total, *by_leaf.values()])
    found, ties = np.empty(group.shape, int), 0
    for outer in np.ndindex(*group.shape[:-1]):
        found[outer], tied = _sorted(stack[(slice(None), *outer)])
        ties += tied
    return found, ties


def _sorted(keys: np.ndarray) -> tuple[np.ndarray, int]:
    """Indices by the first key; those that it does not tell apart by the next ones."""
    p = np.argsort(-keys[0], kind="stable")
    largest = keys[0].max(initial=0)
    values = keys[0][p]
    starts = np.flatnonzero(np.append(True, -np.diff(values) > _SAME * largest))
    ties = 0
    for start, end in zip(starts, [*starts[1:], len(p)], strict=True):
        run = p[start:end]
        if len(run) < 2 or values[start] <= _SAME**2 * largest:
            continue  # units without parameters are all the same
        if len(keys) > 1:
            inner, tied = _sorted(keys[1:][:, run])
            p[start:end], ties = run[inner], ties + tied
        else:
            ties += len(run)
    return p, ties


# -- axes ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Axes:
    """g that turns units to the eigenvectors of their Gram matrix.

    - `turn`: (*group.shape, n), orthogonal
    - `clusters`: (outer index, units whose eigenvalues coincide, whether these are not 0); where
      the constant vector is fixed, units count from the first vector beside it
    """

    turn: np.ndarray
    clusters: tuple[tuple[tuple[int, ...], tuple[int, ...], bool], ...]
    fixing: bool

    @property
    def degenerate(self) -> int:
        """How many units share their eigenvalue with another one."""
        return sum(len(run) for _, run, alive in self.clusters if alive and len(run) > 1)


def axes_of(network: Network, key: Key, factor: Factor, leaves: Leaves) -> Axes:
    """The eigenvectors, by falling eigenvalue, and which of them are not determined."""
    group = network.groups[key[0]]
    gram = np.zeros((*group.shape, group.size))
    for stand in stands(network, key):
        rows = rows_of(network, stand, leaves[stand.leaf], group.shape)
        rows = np.where(stand.exponents == 0, 0, rows) if np.ndim(stand.exponents) else rows
        gram[stand.index] += weight_of(stand.leaf) * rows @ rows.swapaxes(-1, -2)
    fixing = factor.kind == "orthogonal fixing ones"
    inner = beside_ones(gram) if fixing else gram
    sizes, vectors = np.linalg.eigh(inner)
    sizes, turn = sizes[..., ::-1], vectors[..., ::-1].swapaxes(-1, -2)
    clusters = []
    for outer in np.ndindex(*group.shape[:-1]):
        own = np.maximum(sizes[outer], 0)
        largest = own.max(initial=0)
        apart = -np.diff(own) > _SAME * np.sqrt(own[:-1] * largest)
        apart &= own[:-1] > _SAME**2 * largest
        for run in np.split(np.arange(len(own)), np.flatnonzero(apart) + 1):
            alive = bool(own[run].max(initial=0) > _SAME**2 * largest)
            clusters.append((outer, tuple(map(int, run)), alive))
    return Axes(around_ones(turn) if fixing else turn, tuple(clusters), fixing)


# -- signs -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """The rows of a stand, and which of their entries stand for settled units alone.

    - `rows`, `use`: (*outer sizes or 1, n, columns); `use` is 1 where all other units of an entry
      are settled, else 0
    - `parity`: the signs of the group that move an entry, as bits; broadcasts to the rows
    """

    leaf: int
    index: tuple[slice, ...]
    rows: np.ndarray
    use: np.ndarray
    parity: Any

    def at(self, outer: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray] | None:
        """(rows, use) of one outer index, if they hold it."""
        pairs = list(zip(self.index, outer, strict=True))
        if any(w.start not in (None, k) for w, k in pairs):
            return None
        own = tuple(k if w.start is None else 0 for w, k in pairs)
        return self.rows[own], self.use[own]

    def weights(self, many: int) -> np.ndarray:
        """A fixed linear function of the columns."""
        columns = self.rows.shape[-1]
        return np.random.default_rng([self.leaf, columns]).normal(size=(columns, many))


def seen_of(
    network: Network, group: Group, leaves: Leaves, settled: Mapping[str, np.ndarray]
) -> list[Seen]:
    """All rows of a group."""
    signs = [(bit, f) for bit, (_, f) in enumerate(_signs(group))]
    found = []
    for stand in stands(network, everywhere(group)):
        leaf = leaves[stand.leaf]
        if leaf is None:
            continue
        known, code = np.ones(leaf.shape), np.zeros(leaf.shape, int)
        for other in network.groups.values():
            known = _masked(network, other, other is group, settled[other.name], stand, known)
        for bit, factor in signs:
            for move in dict(factor.moves).get(stand.leaf, ()):
                if move.axis == stand.axis:
                    code = code + ((move.exponents % 2) << bit)
        how = plan(network.leaf_axes[stand.leaf])[0]
        use, parity = (stand.rows(v, how, group.shape) for v in (known, code))
        if np.iscomplexobj(leaf):
            use, parity = (np.concatenate([v, v], -1) for v in (use, parity))
        rows = rows_of(network, stand, leaf, group.shape)
        found.append(Seen(stand.leaf, stand.index, rows, use, parity))
    return found


def _masked(
    network: Network, other: Group, itself: bool, done: np.ndarray, stand: Stand, known: np.ndarray
) -> np.ndarray:
    """1 where the units of a group on the axes of a leaf are settled, but for the stand's own."""
    where = other.structure.factors[everywhere(other)[1]]
    if itself:
        kept = [(n, tuple(m for m in of if m.axis != stand.axis)) for n, of in where.moves]
        where = dataclasses.replace(where, moves=tuple(kept))
    if done.all() or not dict(where.moves).get(stand.leaf):
        return known
    pair = matrices_of(other)
    if pair and pair[1].kind == "orthogonal fixing ones":  # which mixes all units
        done = np.broadcast_to(done.all(-1, keepdims=True), done.shape)
    axes = network.leaf_axes[stand.leaf]
    return transform_leaf(other, where, done.astype(float), stand.leaf, known, axes)


def _signs(group: Group) -> list[tuple[Key, Factor]]:
    return [(k, f) for k, f in factors(group) if f.kind == "sign"]


def turned(
    group: Group, axes: Axes, found: list[Seen], done: np.ndarray, last: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """(g, which units are settled, how many are not determined) of units that rotate.

    **Arguments:**
    - `found`: of `seen_of`; `done`: the units settled so far
    - `last`: settle the others, too, as they are
    """
    n = group.size - axes.fixing
    g = np.broadcast_to(np.eye(n), (*group.shape[:-1], n, n)).copy()
    now, missing = done.copy(), 0
    for outer, run, alive in axes.clusters:
        units = np.array(run) + axes.fixing
        if done[outer][units].all():
            continue
        if not alive:
            now[outer][units] = True
            continue
        value, whole = np.zeros((len(run), len(run))), 0.0
        for seen in found:
            own = seen.at(outer)
            if own is not None:
                x = _inner(own[0], axes.fixing)[list(run)]
                value += (x * own[1].min(0)) @ seen.weights(len(run))
                whole += float((x**2).sum())
        q, triangle = np.linalg.qr(value)
        diagonal = np.diag(triangle)
        clear = np.abs(diagonal).min() > _NOTHING * np.sqrt(whole)
        if clear:
            signs = np.where(diagonal < 0, -1, 1)
            g[(*outer, *np.ix_(run, run))] = (q * signs).T
        if clear or last:
            now[outer][units] = True
        if last and not clear:
            missing += len(run)
    if axes.fixing:
        now[..., 0] = now[..., 1:].all(-1)
    return (around_ones(g) if axes.fixing else g), now, missing


def _inner(rows: np.ndarray, fixing: bool) -> np.ndarray:
    """Rows in the basis of the axes: beside the constant vector where that is fixed."""
    if not fixing:
        return rows
    n = len(rows)
    v = np.full(n, -1 / np.sqrt(n))
    v[0] += 1
    v /= np.linalg.norm(v)
    return (rows - 2 * np.outer(v, v @ rows))[1:]


def signs_of(
    group: Group, found: list[Seen], done: np.ndarray, last: bool
) -> tuple[dict[Key, np.ndarray], np.ndarray, int]:
    """(signs by factor, which units are settled, how many are not determined); see `turned`."""
    value: dict[int, np.ndarray] = {}
    whole: dict[int, np.ndarray] = {}
    for seen in found:
        for code in np.unique(seen.parity).tolist():
            x = np.where(seen.parity == code, seen.rows, 0)
            sums = (x * seen.use) @ seen.weights(1)[:, 0], (x**2).sum(-1)
            for total, one in zip((value, whole), sums, strict=True):
                total.setdefault(code, np.zeros(group.shape))[seen.index] += one
    keys = [k for k, _ in _signs(group)]
    signs = {k: np.ones(group.shape) for k in keys}
    now, missing = done.copy(), 0
    for unit in zip(*np.nonzero(~done), strict=True):
        there = [c for c in sorted(whole) if c and whole[c][unit] > 0]
        system = _Parities()
        for code in there:
            if abs(value[code][unit]) > _NOTHING * np.sqrt(whole[code][unit]):
                system.add(code, bool(value[code][unit] < 0))
        lost = not all(map(system.spans, there))
        if lost and not last:
            continue
        now[unit] = True
        missing += lost
        for bit in system.solution():
            signs[keys[bit]][unit] = -1
    return signs, now, missing


class _Parities:
    """Equations over signs: the product of those of the bits is negative, or not."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[int, bool]] = {}  # leading bit → (bits, negative)

    def add(self, bits: int, negative: bool) -> None:
        bits, negative = self._reduced(bits, negative)
        if bits:
            self.rows[bits.bit_length() - 1] = (bits, negative)

    def spans(self, bits: int) -> bool:
        return not self._reduced(bits, False)[0]

    def _reduced(self, bits: int, negative: bool) -> tuple[int, bool]:
        for lead in sorted(self.rows, reverse=True):
            if bits >> lead & 1:
                own, sign = self.rows[lead]
                bits, negative = bits ^ own, negative ^ sign
        return bits, negative

    def solution(self) -> list[int]:
        """The bits whose sign is −1; those that nothing determines are 1."""
        found: set[int] = set()
        for lead in sorted(self.rows):
            bits, negative = self.rows[lead]
            if negative ^ (sum(1 for b in found if bits >> b & 1) % 2 == 1):
                found.add(lead)
        return sorted(found)


__all__ = [
    "Axes",
    "Leaves",
    "Seen",
    "axes_of",
    "matrices_of",
    "order",
    "seen_of",
    "signs_of",
    "turned",
]
