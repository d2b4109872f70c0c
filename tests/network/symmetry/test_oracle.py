"""Symmetries found against those that exist: never too large, never too small (`oracle.py`)."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import mcjax
from mcjax.network.symmetry.act import transform_leaf
from tests.network.symmetry.oracle import SHOWN, Found, Oracle, rank
from tests.network.symmetry.oracle_models import MODELS

_STEP = 1e-4  # of central differences

# -- what was found, in the oracle's terms --------------------------------------------------


class Structure:
    """The elements of everything that was found, as changes of the flat parameters."""

    def __init__(self, network: mcjax.Network, oracle: Oracle) -> None:
        self.network, self.oracle = network, oracle

    def moved(self, group, factor, element, theta: np.ndarray) -> np.ndarray:
        out, leaves = theta.copy(), self.oracle.leaves(theta)
        for i, _ in factor.moves:
            axes, (start, leaf) = self.network.leaf_axes[i], leaves[i]
            done = transform_leaf(group, factor, element, i, leaf, axes)
            out[start : start + leaf.size] = done.ravel()
        return out

    def velocities(self, only: str | None = None, at: tuple[int, ...] = ()) -> np.ndarray:
        """Of every one-parameter subgroup (of one group, at one outer index) at the first draws."""
        found = []
        for group, factor in self._factors(only):
            for index in [at] if only else np.ndindex(group.shape[:-1]):
                for plus, minus in _subgroups(factor.kind, group.shape, index):
                    ends = [np.concatenate([self.moved(group, factor, e, theta)
                                            for theta in self.oracle.theta[:SHOWN]])
                            for e in (plus, minus)]  # fmt: skip
                    found.append((ends[0] - ends[1]) / (2 * _STEP))
        return np.array(found).reshape(len(found), self.oracle.theta[:SHOWN].size)

    def signs(self) -> np.ndarray:
        """Which entries each change of one unit's sign turns, (number, entries)."""
        found = []
        for group, factor in self._factors(None):
            if factor.kind in ("positive", "orthogonal fixing ones"):
                continue
            for unit in np.ndindex(group.shape):
                element = np.ones(group.shape)
                element[unit] = -1
                if factor.matrices:
                    element = element[..., None] * np.eye(group.size)
                theta = self.oracle.theta[0]
                found.append(self.moved(group, factor, element, theta) * theta < 0)
        return np.array(found).reshape(len(found), self.oracle.theta.shape[1])

    def _factors(self, only: str | None) -> Iterator[tuple[Any, Any]]:
        for name, group in self.network.groups.items():
            for factor in group.structure.factors if only in (None, name) else ():
                if factor.kind != "permutation":
                    yield group, factor


def _subgroups(kind: str, shape, index) -> Iterator[list[np.ndarray]]:
    """Both ends of exp(± step X) for a basis of X of one outer index."""
    n = shape[-1]
    if kind == "sign":
        return
    if kind == "positive":
        for unit in range(n):
            ends = [np.ones(shape) for _ in range(2)]
            for end, s in zip(ends, (_STEP, -_STEP), strict=True):
                end[(*index, unit)] = np.exp(s)
            yield ends
        return
    for x in _algebra(kind, n):
        ends = [np.broadcast_to(np.eye(n), (*shape, n)).copy() for _ in range(2)]
        for end, s in zip(ends, (_STEP, -_STEP), strict=True):
            end[index] = scipy.linalg.expm(s * x)
        yield ends


def _algebra(kind: str, n: int) -> list[np.ndarray]:
    units = [np.outer(a, b) for a, b in itertools.product(np.eye(n), repeat=2)]
    if kind == "general linear":
        return units
    skew = [u - u.T for u in units if np.triu(u, 1).any()]
    if kind == "orthogonal":
        return skew
    keep = np.eye(n) - 1 / n  # of the skew ones those with X 1 = 0: a basis among too many
    made = np.array([(keep @ x @ keep).ravel() for x in skew])
    _, s, vt = np.linalg.svd(made, full_matrices=False)
    return list(vt[s > 1e-9].reshape(-1, n, n))


def _supported(exponents: np.ndarray, own: np.ndarray, live: np.ndarray) -> np.ndarray:
    """Of the sums of some exponents those that are zero off some entries, on these."""
    off = live.copy()
    off[own] = False
    if not len(exponents):
        return np.zeros((0, len(own)))
    u, s, _ = np.linalg.svd(exponents[:, off], full_matrices=True)
    return u[:, (s > 1e-6).sum() :].T @ exponents[:, own]


def _binary_rank(rows: np.ndarray) -> int:
    pivots: dict[int, int] = {}
    for row in rows:
        number = int.from_bytes(np.packbits(row).tobytes(), "big")
        while number and (lead := number.bit_length()) in pivots:
            number ^= pivots[lead]
        if number:
            pivots[lead] = number
    return len(pivots)


# -- the comparison -------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_as_large_as_what_there_is(name):
    case = MODELS[name]()
    narrow = lambda v: jnp.asarray(v, jnp.float32 if np.asarray(v).dtype.kind == "f" else None)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="mcjax found symmetries")
        warnings.filterwarnings("ignore", message="apply_fn is normalised by the batch")
        network = mcjax.trace(case.function, jax.tree.map(narrow, case.params), narrow(case.x))
    oracle = Oracle(case.function, case.params, case.x)
    structure = Structure(network, oracle)
    velocities, signs = structure.velocities(), structure.signs()
    _is_sound(oracle, velocities, signs)
    theta = oracle.theta[0]
    diagonal = np.array([v for v in velocities[:, : theta.size] / theta
                         if _diagonal(v)]).reshape(-1, theta.size)  # fmt: skip
    assert set(case.views) <= set(network.groups)
    for group, (view, index) in case.views.items():
        found = oracle.group(view)
        scalings, n_signs, dimension = case.expected[group]
        where = f"{name}, {group}"
        assert (len(found.scalings), len(found.signs)) == (scalings, n_signs), where
        assert rank(structure.velocities(group, index)) == dimension, where
        mine = _supported(diagonal, found.entries, oracle.live)
        assert rank(mine) == rank(np.concatenate([mine, found.scalings])) == scalings, where
        there = np.concatenate([velocities, found.dead])
        assert rank(np.concatenate([there, found.algebra])) == rank(there), where
        _has_signs(oracle, signs, view, found, where)


def _diagonal(exponents: np.ndarray) -> bool:
    """Whether they are integers: what a rotation does to an entry depends on the others."""
    return bool((np.abs(exponents - np.round(exponents)) < 1e-5).all())


def _is_sound(oracle: Oracle, velocities: np.ndarray, signs: np.ndarray) -> None:
    steps = velocities.reshape(len(velocities), SHOWN, -1)
    rates = np.einsum("rmp,krp->krm", oracle.jacobian[:SHOWN], steps)
    assert np.abs(rates).max(initial=0) < 1e-6 * np.abs(oracle.y).max()
    turned = np.where(signs[:, None], -1, 1) * oracle.theta[None, :SHOWN]
    assert not len(turned) or oracle.unchanged(turned).all()


def _has_signs(oracle: Oracle, signs, view, found: Found, where: str) -> None:
    occurrences, live = oracle.occurrences(view), oracle.live
    patterns = np.zeros((len(found.signs), len(live)), bool)
    for row, pattern in zip(patterns, found.signs, strict=True):
        for o in pattern:
            row[occurrences[o][0]] ^= True
    known = signs[:, live]
    both = np.concatenate([known, patterns[:, live]])
    assert _binary_rank(both) == _binary_rank(known), where
