"""The linear symmetries of a group of units, by linear algebra on derivatives.

A person says where the units stand, as a *view*: parameters → arrays with the units on axis 0, one
for each occurrence (so a view may cut what is fused). Everything else is found from the function in
float64: its Jacobians J at random parameters and inputs. No rule of mcjax is used.

- *scalings* of unit 0: exponents k, one for each of its entries, with Σ_d k_d θ_d ∂f/∂θ_d = 0
- *algebra*: matrices X_o, one for each occurrence and all independent, with Σ_o ⟨∂f/∂θ_o, X_o θ_o⟩
  = 0: the whole Lie algebra of linear actions on the units, whichever representations it has
- *signs* of unit 0, one for each occurrence, by trying all of them

The same coefficients must do for all parameters and inputs, which are drawn often enough to make
twice as many equations as there are unknowns; singular values that are zero are told from small
ones by a gap. Entries of which the function does not depend at all (a bias before a mean is
subtracted) are left out of the scalings and the signs.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

_BATCH = 16  # of one call of the compiled function
SHOWN = 4  # draws at which velocities are compared
_ZERO, _SMALLEST = 1e-10, 1e-6  # relative singular values: below is zero, above is none


@dataclasses.dataclass(frozen=True)
class Found:
    """What one group of units admits.

    - `entries`: of unit 0, those that the function depends on, numbered in the flat parameters
    - `scalings`: basis of the exponents of these, (number, entries)
    - `signs`: basis over GF(2) of the occurrences that may change their sign, as sets
    - `algebra`: velocities of the parameters at the first `SHOWN` draws, (number, draws × entries)
    - `dead`: the same, of what moves one occurrence alone
    """

    entries: np.ndarray
    scalings: np.ndarray
    signs: list[frozenset[int]]
    algebra: np.ndarray
    dead: np.ndarray


class Oracle:
    """A function of parameters and inputs, with its Jacobians at random draws."""

    def __init__(self, function: Callable, params: dict, x: Any, draws: int = 2 * _BATCH) -> None:
        rng = np.random.default_rng(5)
        leaves, self.treedef = jax.tree.flatten(params)
        self.shapes = [np.shape(v) for v in leaves]
        self.sizes = [int(np.prod(s)) for s in self.shapes]
        positive = np.concatenate([np.full(n, (np.asarray(v) > 0).all())
                                   for v, n in zip(leaves, self.sizes, strict=True)])  # fmt: skip
        theta = rng.normal(size=(draws, len(positive)))
        self.theta = np.where(positive, np.exp(theta / 2), theta)  # a variance stays one
        integers = np.issubdtype(np.asarray(x).dtype, np.integer)
        shape = (draws, *np.shape(x))
        self.x = rng.integers(0, np.max(x) + 1, shape) if integers else rng.normal(size=shape)

        def flat(theta, x):
            y = function(self.tree(theta), x).ravel()
            return y, y

        with jax.enable_x64(True):
            both = jax.jit(jax.vmap(jax.jacrev(flat, has_aux=True)))
            self.run = both.lower(self.theta[:_BATCH], self.x[:_BATCH]).compile()
        self.jacobian, self.y = self._many(self.theta, self.x)
        self.scale = np.abs(self.jacobian).max()
        self.live = (np.abs(self.jacobian) > _ZERO * self.scale).any((0, 1))

    def leaves(self, flat: Any) -> list[tuple[int, Any]]:
        """(where it starts, leaf) of flat parameters."""
        starts = np.cumsum([0, *self.sizes])[:-1].tolist()
        both = zip(starts, self.sizes, self.shapes, strict=True)
        return [(start, flat[start : start + n].reshape(shape)) for start, n, shape in both]

    def tree(self, flat: Any) -> Any:
        return jax.tree.unflatten(self.treedef, [leaf for _, leaf in self.leaves(flat)])

    def _many(self, theta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(Jacobians, values), padded to whole batches."""
        n = len(theta)
        index = np.arange(-(-n // _BATCH) * _BATCH).reshape(-1, _BATCH) % n
        with jax.enable_x64(True):
            done = [[np.asarray(v) for v in self.run(theta[i], x[i])] for i in index]
        jacobians, values = (np.concatenate(v)[:n] for v in zip(*done, strict=True))
        return jacobians, values

    # -- one group --------------------------------------------------------------------------

    def occurrences(self, view: Callable[[Any], Sequence[Any]]) -> list[np.ndarray]:
        """For each occurrence the numbers of its entries, (units, columns)."""
        labels = self.tree(np.arange(sum(self.sizes)))
        return [np.asarray(v).reshape(len(v), -1) for v in view(labels)]

    def group(self, view: Callable[[Any], Sequence[Any]]) -> Found:
        where = self.occurrences(view)
        own = np.unique(np.concatenate([w[0] for w in where]))
        own = own[self.live[own]]
        moved = self.jacobian[:, :, own] * self.theta[:, None, own]
        scalings = self._null(moved.reshape(-1, len(own)))
        used = [o for o, w in enumerate(where) if self.live[w].any()]
        algebra = self._algebra(where)
        dead = np.concatenate([self._algebra([w]) for w in where])
        return Found(own, scalings, self._signs(where, used), algebra, dead)

    def _null(self, table: np.ndarray) -> np.ndarray:
        """Basis of the vectors that a table of equations takes to zero."""
        equations, unknowns = table.shape
        assert equations >= 2 * unknowns, "more draws are needed"
        _, s, vt = np.linalg.svd(np.linalg.qr(table, mode="r"))
        zero = s < _ZERO * self.scale * equations**0.5
        near = s[~zero & (s < _SMALLEST * self.scale * equations**0.5)]
        assert not near.size, f"neither zero nor far from it: {near}"
        return vt[(~zero).sum() :]

    def unchanged(self, moved: np.ndarray) -> np.ndarray:
        """Which of some changes, parameters (number, draws, entries), leave the values."""
        n, draws = moved.shape[:2]
        x = np.repeat(self.x[None, :draws], n, 0).reshape(n * draws, *self.x.shape[1:])
        _, y = self._many(moved.reshape(n * draws, -1), x)
        off = np.abs(y.reshape(n, -1) - self.y[:draws].ravel()).max(1, initial=0)
        return off < 1e-9 * np.abs(self.y).max()

    def _algebra(self, where: Sequence[np.ndarray]) -> np.ndarray:
        n = len(where[0])
        columns = [
            np.einsum("rmic,rjc->rmij", self.jacobian[:, :, w], self.theta[:, w], optimize=True)
            for w in where
        ]
        table = np.stack(columns, 2).reshape(-1, len(where) * n * n)
        found = self._null(table).reshape(-1, len(where), n, n)
        theta = self.theta[:SHOWN]
        velocity = np.zeros((len(found), *theta.shape))
        for o, w in enumerate(where):
            step = np.einsum("kij,rjc->kric", found[:, o], theta[:, w], optimize=True)
            np.add.at(velocity, (slice(None), slice(None), w), step)
        return velocity.reshape(len(found), theta.size)

    def _signs(self, where: Sequence[np.ndarray], used: Sequence[int]) -> list[frozenset[int]]:
        """Changes of sign of unit 0 that leave the values at some draws."""
        patterns = [frozenset(c) for k in range(1, len(used) + 1)
                    for c in itertools.combinations(used, k)]  # fmt: skip
        theta = np.repeat(self.theta[None, :4], len(patterns), 0)
        for turned, pattern in zip(theta, patterns, strict=True):
            for o in pattern:
                turned[:, where[o][0]] *= -1
        found: list[frozenset[int]] = []
        for pattern, same in zip(patterns, self.unchanged(theta), strict=True):
            if same and not _spanned(found, pattern):
                found.append(pattern)
        return found


def rank(vectors: np.ndarray) -> int:
    """The dimension of their span, by a gap of their singular values."""
    if not vectors.size:
        return 0
    vectors = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-300)
    s = np.linalg.svd(vectors, compute_uv=False)
    return int((s > 1e-6 * s[0]).sum())


def _spanned(basis: Sequence[frozenset[int]], pattern: frozenset[int]) -> bool:
    """Whether a set is a sum modulo 2 of others."""
    sums = {frozenset()}
    for one in basis:
        sums |= {one ^ other for other in sums}
    return pattern in sums


__all__ = ["SHOWN", "Found", "Oracle", "rank"]
