"""Families of points that are at hand: one, or a stack."""

from __future__ import annotations

from typing import Any, Self

import jax
import jax.numpy as jnp

from .. import _check
from .._types import Params
from ._base import Family, count


class Point(Family):
    """One point, whatever the coordinates.

    >>> import jax.numpy as jnp, mcjax
    >>> mcjax.path.Point({"w": jnp.ones(2)})(0.3)["w"].tolist()
    [1.0, 1.0]
    """

    params: Params

    def at(self, c: Any) -> Params:
        return self.params

    def fixed(self) -> frozenset[int]:
        return frozenset(range(len(jax.tree.leaves(self.params))))


class Points(Family):
    """A stack of points, numbered 0, 1, …: its coordinates are these numbers.

    **Arguments:**
    - `points`: a pytree whose leaves have a leading axis of points

    **Raises:** `ValueError` for leaves of different lengths.

        >>> import jax.numpy as jnp, mcjax
        >>> points = mcjax.path.Points({"w": jnp.array([0., 2., 1.])})
        >>> len(points), float(points(1)["w"])
        (3, 2.0)
    """

    points: Params

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.rows(self.points, "points")

    @classmethod
    def of(cls, family: Family, coordinates: Any) -> Self:
        """The points of a family at coordinates, each computed once."""
        coordinates = jax.tree.map(jnp.asarray, coordinates)
        return cls._unflatten((), [jax.tree.map(jnp.asarray, family.all_at(coordinates))])

    def at(self, c: Any) -> Params:
        k = jnp.asarray(c).astype(int)
        return jax.tree.map(
            lambda v: jax.lax.dynamic_index_in_dim(v, k, keepdims=False), self.points
        )

    def __len__(self) -> int:
        return count(self.points)
