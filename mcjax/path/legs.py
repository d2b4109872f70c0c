"""Paths made of legs, and legs on which only some parameters move."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._static import pack
from .._tree import at_least_single
from .._types import Params
from ._base import Combination, Family, Path, count, static, time
from .points import Points


class Knots(Path):
    """Straight between many points, stacked: θ(t) = (1 − s) θ_k + s θ_{k+1}, t_k ≤ t ≤ t_{k+1}.

    The same curve as a `PolygonalChain`, for chains of many points: only two of them are read at
    a t. `Knots.of(path, ts)` computes points of a costly path once, for several evaluations there.

    **Arguments:**
    - `points`: a pytree whose leaves have a leading axis of n + 1 ≥ 2 points
    - `ts`: (n + 1,) rising from 0 to 1, where the path is at the points; default: evenly spaced

    **Raises:** `ValueError` for fewer points, leaves of different lengths, or ts that do not rise
    from 0 to 1.

        >>> import jax.numpy as jnp, mcjax
        >>> float(mcjax.path.Knots({"w": jnp.array([0., 2., 1.])})(0.75)["w"])
        1.5
        >>> float(mcjax.path.Knots({"w": jnp.array([0., 2., 1.])}, [0, 0.75, 1])(0.75)["w"])
        2.0
    """

    points: Params
    ts: jax.Array | None

    def __init__(self, points: Params, ts: Any = None) -> None:
        n = _check.rows(points, "points")
        if n < 2:
            raise ValueError("points: Knots needs at least 2 points, got 1")
        if ts is not None:
            ts = _rising(ts, n)
        self._set(points=points, ts=ts)

    @classmethod
    def of(cls, path: Path, ts: Any) -> Knots:
        """The points of a path at ts (rising from 0 to 1), and straight between them."""
        times = _rising(ts, np.size(ts))
        return cls(Points.of(path, times).points, times)

    def at(self, t: Any) -> Params:
        n = len(jax.tree.leaves(self.points)[0]) - 1
        t = time(t)
        if self.ts is None:
            s = t * n
            whole = jnp.clip(jnp.floor(s), 0, n - 1)
            k, part = whole.astype(int), s - whole
        else:
            ts = self.ts.astype(t.dtype)
            k = jnp.clip(jnp.searchsorted(ts, t, side="right") - 1, 0, n - 1)
            part = (t - ts[k]) / (ts[k + 1] - ts[k])

        def between(leaf):
            low, high = (jax.lax.dynamic_index_in_dim(leaf, i, keepdims=False) for i in (k, k + 1))
            if not jnp.issubdtype(leaf.dtype, jnp.inexact):
                return low
            dtype = at_least_single(leaf.dtype)
            w = part.astype(dtype)
            return ((1 - w) * low.astype(dtype) + w * high.astype(dtype)).astype(leaf.dtype)

        return jax.tree.map(between, self.points)


def _rising(ts: Any, n: int) -> jax.Array:
    values = np.asarray(ts, np.result_type(jnp.result_type(float)))
    ends = values.shape == (n,) and values[0] == 0 and values[-1] == 1
    if not ends or not (np.diff(values) > 0).all():
        raise ValueError(f"ts must be {n} numbers that rise from 0 to 1, one for each point")
    return jnp.asarray(values)


class Partial(Path):
    """Some leaves move, each set along a path of its own; the others stay as in `base`.

    **Arguments:**
    - `base`: parameters
    - `parts`: (leaf numbers in the order of `jax.tree.leaves`, path over the list of these
      leaves) for each set

    **Raises:** `ValueError` for numbers that are out of range or used twice.

        >>> import jax.numpy as jnp, mcjax
        >>> base = {"b": jnp.zeros(()), "w": jnp.zeros(())}
        >>> line = mcjax.path.Linear([base["w"]], [base["w"] + 2])
        >>> leg = mcjax.path.Partial(base, [((1,), line)])
        >>> {k: float(v) for k, v in leg(0.5).items()}
        {'b': 0.0, 'w': 1.0}
    """

    base: Params
    parts: tuple[Path, ...]
    moved: tuple[tuple[int, ...], ...] = static()

    def __init__(self, base: Params, parts: Sequence[tuple[Sequence[int], Path]]) -> None:
        moved = tuple(tuple(int(i) for i in numbers) for numbers, _ in parts)
        every = [i for numbers in moved for i in numbers]
        count = len(jax.tree.leaves(pack(base, "base")))
        if len(set(every)) < len(every) or any(not 0 <= i < count for i in every):
            raise ValueError(f"parts: leaf numbers must be distinct and below {count}, got {every}")
        self._set(base=base, parts=tuple(p for _, p in parts), moved=moved)

    def at(self, t: Any) -> Params:
        leaves, treedef = jax.tree.flatten(self.base)
        for numbers, part in zip(self.moved, self.parts, strict=True):
            for i, leaf in zip(numbers, part.at(t), strict=True):
                leaves[i] = leaf
        return jax.tree.unflatten(treedef, leaves)

    def all_at(self, coordinates: Any) -> Params:
        """Part after part: parts that move leaves of equal shapes have one program."""
        leaves, treedef = jax.tree.flatten(self.base)
        # Nothing is copied: all points have the same.
        stacked = [np.broadcast_to(np.asarray(v), (count(coordinates), *v.shape)) for v in leaves]
        for numbers, part in zip(self.moved, self.parts, strict=True):
            for i, leaf in zip(numbers, part.all_at(coordinates), strict=True):
                stacked[i] = leaf
        return jax.tree.unflatten(treedef, stacked)

    def linear(self) -> Combination | None:
        """Of the first part that combines points."""
        for numbers, part in zip(self.moved, self.parts, strict=True):
            found = part.linear()
            if found is not None and found.leaves is None:
                return dataclasses.replace(found, leaves=numbers)
        return None

    def fixed(self) -> frozenset[int]:
        moved = [i for numbers in self.moved for i in numbers]
        return frozenset(range(len(jax.tree.leaves(self.base)))).difference(moved)

    @property
    def costly(self) -> bool:
        return any(part.costly for part in self.parts)


class Legs(Path):
    """Paths one after the other, each of the same length in t.

    θ(t) = leg_k(n t − k) for t in [k/n, (k + 1)/n]. A leg shares the arrays that it does not
    change with its neighbours, and `mcjax.evaluate` computes once a leg what a leg does not move.

    **Arguments:**
    - `legs`: n ≥ 1 paths, each of which starts where the one before ends

    **Raises:** `ValueError` for no legs, or legs over different trees.

        >>> import jax.numpy as jnp, mcjax
        >>> a, b, c = ({"w": jnp.array(v)} for v in (0., 1., 0.))
        >>> float(mcjax.path.Legs([mcjax.path.Linear(a, b), mcjax.path.Linear(b, c)])(0.75)["w"])
        0.5
    """

    legs: tuple[Path, ...]

    def __init__(self, legs: Sequence[Path]) -> None:
        # Legs inside legs would make some parts of the path pass faster than others.
        flat = [p for leg in legs for p in leg.sections()]
        if not flat:
            raise ValueError("legs is empty")
        first = jax.eval_shape(flat[0].at, 0.0)
        for i, leg in enumerate(flat[1:], 1):
            shapes = jax.eval_shape(leg.at, 0.0)
            _check.same_structure(first, shapes, names=("legs[0]", f"legs[{i}]"))
        self._set(legs=tuple(flat))

    def at(self, t: Any) -> Params:
        n, s = len(self.legs), time(t) * len(self.legs)
        if n == 1:
            return self.legs[0].at(s)
        whole = jnp.clip(jnp.floor(s), 0, n - 1)
        if _check.is_concrete(whole):
            return self.legs[int(whole)].at(s - whole)
        return jax.lax.switch(whole.astype(int), [leg.at for leg in self.legs], s - whole)

    def mixture(self, coordinates: Any) -> tuple[Sequence[Params], np.ndarray]:
        """The end points', computed on the first leg and the last."""
        ts, ends = np.asarray(coordinates, np.float64), (self.legs[0], self.legs[-1])
        stacked = [leg.all_at(time(np.array([k]))) for k, leg in enumerate(ends)]
        points = [jax.tree.map(lambda v: v[0], s) for s in stacked]
        return points, np.stack([1 - ts, ts], -1)

    def sections(self) -> tuple[Path, ...]:
        return self.legs

    @property
    def costly(self) -> bool:
        return any(leg.costly for leg in self.legs)

    def pieces(self, coordinates: Any) -> list[tuple[np.ndarray, Family, Any]]:
        """Leg after leg: what a leg does not move is shared on it."""
        return [
            (which[some], piece, at)
            for number, which, where in self.places(coordinates)
            for some, piece, at in self.legs[number].pieces(where)
        ]

    def places(self, ts: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """(leg, which of `ts` lie on it, where on the leg), in order, for legs with any."""
        n = len(self.legs)
        s = np.asarray(ts, np.float64) * n
        k = np.clip(np.floor(s + 1e-9), 0, n - 1).astype(int)
        return [
            (int(leg), np.flatnonzero(k == leg), np.clip(s[k == leg] - leg, 0, 1))
            for leg in np.unique(k)
        ]
