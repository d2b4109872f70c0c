"""Orders, axes and signs of units that do not depend on the representative of an orbit.

After `balance` only permutations, rotations and signs are left, and lengths of rows and eigenvalues
of their Gram matrices do not change under any of those, of whatever group. So units are sorted by
the lengths of their rows, and units that rotate turned to the eigenvectors of their Gram matrix.
Signs, and what rotates where eigenvalues coincide, follow from a fixed linear function of the rows
over columns that are settled already, group after group from the inputs and outputs inwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._tree import is_inexact
from ..symmetry.matrices import around_ones, beside_ones
from .balance import Leaves, moved, places
from .elements import Key, factors
from .groups import Group
from .network import Network
from .symmetry.act import transform_leaf
from .symmetry.factors import Factor
from .symmetry.rows import grams, rows_of, squares

_SAME = 1e-6  # relative difference of lengths, or of eigenvalues, that rounding may exchange
_NOTHING = 1e-9  # relative to what it is a sum of: it has no sign


def weight_of(leaf: int) -> float:
    """In sums over leaves, so that none that are equal by construction coincide."""
    return 1 + (leaf * 0.6180339887498949) % 1


def everywhere(group: Group) -> Factor:
    """Where the units stand."""
    (found,) = (f for f in group.structure.factors if f.kind == "permutation")
    return found


def matrices_of(group: Group) -> tuple[Key, Factor] | None:
    return next((pair for pair in factors(group) if pair[1].matrices), None)


# -- orders ----------------------------------------------------------------------------------


def order(network: Network, group: Group, leaves: Leaves) -> tuple[np.ndarray, int]:
    """(index array, how many units only their old order tells apart): by length, longest first."""
    keys = []
    for number, of in everywhere(group).moves:
        if is_inexact(leaves[number]):
            where = [(m, leaves[number], network.leaf_axes[number]) for m in of]
            keys.append((weight_of(number), squares(group, where)[1]))
    total = sum((w * v for w, v in keys), np.zeros(group.shape))
    stack = np.stack([total, *(v for _, v in keys)])
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


def axes_of(network: Network, group: Group, factor: Factor, leaves: Leaves) -> Axes:
    """The eigenvectors, by falling eigenvalue, and which of them are not determined."""
    gram = np.zeros((*group.shape, group.size))
    for number, of in factor.moves:
        where = [(m, leaves[number], network.leaf_axes[number]) for m in of]
        for k, found in grams(group, where).items():
            gram += weight_of(number) * abs(k) * found
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


def settled_rows(
    network: Network, group: Group, leaves: Leaves, settled: dict[str, np.ndarray]
) -> Iterator[tuple[int, Any, Any]]:
    """(leaf, its rows, 1 where all other units that an entry stands for are settled)."""
    for number, of in everywhere(group).moves:
        leaf, axes = leaves[number], network.leaf_axes[number]
        if not is_inexact(leaf):
            continue
        for move in of:
            known = np.ones(leaf.shape)
            for other in network.groups.values():
                where = everywhere(other)
                if other is group:
                    kept = [(n, tuple(m for m in o if m.axis != move.axis)) for n, o in where.moves]
                    where = dataclasses.replace(where, moves=tuple(kept))
                mask = settled[other.name]
                if not mask.all() and dict(where.moves).get(number):
                    pair = matrices_of(other)
                    if pair and pair[1].kind == "orthogonal fixing ones":  # all units are mixed
                        mask = np.broadcast_to(mask.all(-1, keepdims=True), mask.shape)
                    mask = mask.astype(float)
                    known = transform_leaf(other, where, mask, number, known, axes)
            pairs = zip(
                rows_of(group, move, leaf, axes), rows_of(group, move, known, axes), strict=True
            )
            for rows, use in pairs:
                yield number, rows, use.rows


def turned(
    group: Group, axes: Axes, found: list[tuple[int, Any, Any]], done: np.ndarray, last: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """(g, which units are settled, how many are not determined) of units that rotate.

    **Arguments:**
    - `found`: of `settled_rows`, all; `done`: the units settled so far
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
        seen, whole = np.zeros((len(run), len(run))), 0.0
        for number, rows, use in _at(found, outer):
            rows = np.concatenate([rows.real, rows.imag], -1) if np.iscomplexobj(rows) else rows
            use = np.concatenate([use, use], -1)[..., : rows.shape[-1]]
            x = _inner(rows, axes.fixing)[run, :]
            free = use.min(0) if len(use) else use  # a column counts for all units, or for none
            weights = _weights(number, x.shape[-1], len(run))
            seen += (x * free) @ weights
            whole += float((x**2).sum())
        q, triangle = np.linalg.qr(seen)
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


def _at(found: list[tuple[int, Any, Any]], outer: tuple[int, ...]) -> Iterator[Any]:
    """(leaf, rows, use) of one outer index."""
    for number, r, use in found:
        inside = [w == slice(None) or w.start == k for w, k in zip(r.where, outer, strict=True)]
        if all(inside):
            own = tuple(
                k if w == slice(None) else 0 for w, k in zip(r.where, outer, strict=True)
            )
            yield number, r.rows[own], use[own]


def _weights(leaf: int, columns: int, many: int) -> np.ndarray:
    """A fixed linear function of so many columns."""
    return np.random.default_rng([leaf, columns]).normal(size=(columns, many))


def signs_of(
    network: Network, group: Group, leaves: Leaves, found: list[tuple[int, Any, Any]],
    done: np.ndarray, last: bool,
) -> tuple[dict[Key, np.ndarray], np.ndarray, int]:  # fmt: skip
    """(signs by factor, which units are settled, how many are not determined)."""
    keys = [(k, f) for k, f in factors(group) if f.kind == "sign"]
    seen, whole = _by_parity(network, group, [f for _, f in keys], leaves, found)
    signs = {k: np.ones(group.shape) for k, _ in keys}
    now, missing = done.copy(), 0
    for unit in zip(*np.nonzero(~done), strict=True):
        there = [c for c in whole if whole[c][unit] > 0]
        clear = [c for c in there if abs(seen[c][unit]) > _NOTHING * np.sqrt(whole[c][unit])]
        system = _Parities()
        for code in clear:
            system.add(code, bool(seen[code][unit] < 0))
        lost = [c for c in there if not system.spans(c)]
        if lost and not last:
            continue
        now[unit] = True
        missing += bool(lost)
        for bit in system.solution():
            signs[keys[bit][0]][unit] = -1
    return signs, now, missing


def _by_parity(
    network: Network, group: Group, signs: list[Factor], leaves: Leaves,
    found: list[tuple[int, Any, Any]],
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:  # fmt: skip
    """Which signs act, as bits → (a linear function of the settled entries, Σ |all entries|²)."""
    seen: dict[int, np.ndarray] = {}
    whole: dict[int, np.ndarray] = {}
    codes = _codes(network, group, signs, leaves)
    for (number, r, use), code in zip(found, codes, strict=True):
        x = r.rows.real + r.rows.imag * 0.7 if np.iscomplexobj(r.rows) else r.rows
        weights = _weights(number, x.shape[-1], 1)[:, 0]
        for c in np.unique(code):
            if not c:
                continue
            chosen = np.where(code == c, x, 0)
            for total, value in (
                (seen, (chosen * use) @ weights), (whole, (chosen**2).sum(-1))
            ):  # fmt: skip
                total.setdefault(int(c), np.zeros(group.shape))[r.where] += value
    order = sorted(whole)
    return {c: seen[c] for c in order}, {c: whole[c] for c in order}


def _codes(
    network: Network, group: Group, signs: list[Factor], leaves: Leaves
) -> Iterator[np.ndarray]:
    """For the blocks of `settled_rows` in their order, which signs act on each entry."""
    for number, of in everywhere(group).moves:
        leaf, axes = leaves[number], network.leaf_axes[number]
        if not is_inexact(leaf):
            continue
        for move in of:
            code = np.zeros(leaf.shape, int)
            for bit, factor in enumerate(signs):
                for own in dict(factor.moves).get(number, ()):
                    if own.axis == move.axis:
                        code = code + ((own.exponents % 2) << bit)
            for rows in rows_of(group, move, code, axes):
                yield rows.rows


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


__all__ = ["Axes", "axes_of", "matrices_of", "order", "settled_rows", "signs_of", "turned"]
