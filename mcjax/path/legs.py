"""Paths made of legs, and legs on which only some parameters move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._static import pack
from .._types import Params
from ._base import Path, time


class Knots(Path):
    """Straight between many points, stacked: θ(t) = (1 − s) θ_k + s θ_{k+1}, s = n t − k.

    The same curve as a `PolygonalChain`, for chains of many points of a few leaves: only two of
    them are read at a t.

    **Arguments:**
    - `points`: a pytree whose leaves have a leading axis of n + 1 ≥ 2 points

    **Raises:** `ValueError` for fewer points, or leaves of different lengths.

        >>> import jax.numpy as jnp, mcjax
        >>> float(mcjax.path.Knots({"w": jnp.array([0., 2., 1.])})(0.75)["w"])
        1.5
    """

    fields = ("points",)
    points: Params

    def __init__(self, points: Params) -> None:
        if _check.rows(points, "points") < 2:
            raise ValueError("points: Knots needs at least 2 points, got 1")
        self._set(points=points)

    def at(self, t: Any) -> Params:
        n = len(jax.tree.leaves(self.points)[0]) - 1
        s = time(t) * n
        whole = jnp.clip(jnp.floor(s), 0, n - 1)
        k = whole.astype(int)

        def between(leaf):
            low, high = (jax.lax.dynamic_index_in_dim(leaf, i, keepdims=False) for i in (k, k + 1))
            if not jnp.issubdtype(leaf.dtype, jnp.inexact):
                return low
            dtype = jnp.promote_types(leaf.dtype, jnp.float32)
            w = (s - whole).astype(dtype)
            return ((1 - w) * low.astype(dtype) + w * high.astype(dtype)).astype(leaf.dtype)

        return jax.tree.map(between, self.points)


class Known(Path):
    """Points of a costly path, computed once: θ(t) is the point at the nearest of given t.

    **Arguments:**
    - `path`: any path
    - `ts`: the t to compute, in increasing order
    """

    fields = ("ts", "points")
    ts: jax.Array
    points: Params

    def __init__(self, path: Path, ts: Any) -> None:
        times = jnp.asarray(ts, jnp.result_type(float))
        self._set(ts=times, points=_points(path, times))

    def at(self, t: Any) -> Params:
        k = jnp.argmin(jnp.abs(self.ts - time(t)))
        return jax.tree.map(
            lambda v: jax.lax.dynamic_index_in_dim(v, k, keepdims=False), self.points
        )


@jax.jit
def _points(path: Path, ts: jax.Array) -> Params:
    return jax.lax.map(path.at, ts)


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

    fields = ("base", "parts")
    static = ("moved",)
    base: Params
    parts: tuple[Path, ...]
    moved: tuple[tuple[int, ...], ...]

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

    fields = ("legs",)
    legs: tuple[Path, ...]

    def __init__(self, legs: Sequence[Path]) -> None:
        # Legs inside legs would make some parts of the path pass faster than others.
        flat = [p for leg in legs for p in (leg.legs if isinstance(leg, Legs) else (leg,))]
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

    def grid(self, steps: int) -> np.ndarray:
        """The t with `steps` even steps on each leg (anokhin2020 takes 10)."""
        return np.linspace(0, 1, _check.positive(steps, "steps") * len(self.legs) + 1)

    def places(self, ts: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """(leg, which of `ts` lie on it, where on the leg), in order, for legs with any."""
        n = len(self.legs)
        s = np.asarray(ts, np.float64) * n
        k = np.clip(np.floor(s + 1e-9), 0, n - 1).astype(int)
        return [
            (int(leg), np.flatnonzero(k == leg), np.clip(s[k == leg] - leg, 0, 1))
            for leg in np.unique(k)
        ]
